/** A bundle of a few hundred bytes for a model that exists only as numbers, to be damaged in tests. */
import { createRng } from "../../src/sampling/rng.ts";
import {
  type BundleMetadata,
  type BundleModel,
  type BundlePart,
  type BundleTensor,
  bundleTensorName,
  bundleVersion,
} from "../../src/sparsity/bundle.ts";
import type { PredictorKind } from "../../src/sparsity/predictor.ts";
import { fromFloat32 } from "../../src/tensor/dtype.ts";

/** The key of a bundle's metadata in the file's header. */
export const bundleKey = "dejavu-bundle";

export const tinyBundleModel: BundleModel = {
  fingerprint: "0123456789abcdef".repeat(4),
  modelType: "opt",
  layers: 2,
  hiddenSize: 4,
  heads: 2,
  ffnDim: 6,
};

export interface BundleParts {
  metadata: BundleMetadata;
  tensors: BundleTensor[];
}

export function tinyBundle(kind: PredictorKind = "per-layer"): BundleParts {
  const isShadow = kind === "shadow";
  const { layers, hiddenSize, heads, ffnDim } = tinyBundleModel;
  const calibration = { rank: 2, density: 0.5, recall: 0.95, precision: 0.7 };
  const metadata: BundleMetadata = {
    version: bundleVersion,
    model: { ...tinyBundleModel },
    predictor: kind,
    sources: isShadow
      ? { heads: "first-block", neurons: "first-block" }
      : { heads: "attention-input", neurons: "mlp-input" },
    targets: { heads: "norm", neurons: "active" },
    policy: {
      attention: "dense-kv",
      heads: [{ kind: "dense" }, { kind: "topK", k: 1 }],
      neurons: [
        { kind: "threshold", threshold: -0.25 },
        { kind: "topK", k: 3 },
      ],
    },
    curve: [0.01, 0.04].map((increase, i) => ({
      policy: {
        attention: "dense-kv",
        heads: [{ kind: "dense" }, i === 0 ? { kind: "dense" } : { kind: "topK", k: 1 }],
        neurons: [
          { kind: "threshold", threshold: -0.25 - i },
          { kind: "topK", k: 4 - i },
        ],
      },
      densities: { heads: [1, 1 - i / 2], neurons: [0.5, (4 - i) / 6] },
      bytesPerToken: 90 - 20 * i,
      mlpBytesPerToken: 60 - 20 * i,
      calibrated: { perplexityIncrease: increase, kl: increase },
      reported: { perplexityIncrease: increase / 2, kl: increase },
      quality: increase,
    })),
    search: {
      maxPerplexityIncrease: 0.05,
      forwardTokens: 1000,
      documents: { calibrated: 2, reported: 2 },
      tokens: { calibrated: 20, reported: 30 },
      dense: { bytesPerToken: 100, mlpBytesPerToken: 70, perplexity: 4.5 },
      uniform: null,
    },
    calibration: {
      heads: [calibration, calibration],
      neurons: [calibration, calibration],
      perplexity: { dense: 4.5, predicted: 4.6 },
    },
    provenance: {
      program: "dejavu 0",
      texts: [{ name: "a.txt", sha256: "ab" }],
      documents: 20,
      rows: 100,
      heldOutRows: 5,
      options: { rank: 2, source: "mlp-input" },
      kernels: "reference javascript",
    },
  };
  const rng = createRng(1);
  const tensors: BundleTensor[] = [];
  const add = (name: string, dtype: "F32" | "F16", ...shape: number[]) => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => rng.next() - 0.5);
    const { buffer } = fromFloat32(dtype === "F32" ? "f32" : "f16", values);
    tensors.push({ name, dtype, shape, data: new Uint8Array(buffer) });
  };
  const ranks = { heads: isShadow ? 3 : null, neurons: 2 };
  for (let layer = 0; layer < layers; layer++)
    for (const unit of ["heads", "neurons"] as const) {
      const [units, rank] = [unit === "heads" ? heads : ffnDim, ranks[unit]];
      const name = (part: BundlePart) => bundleTensorName(kind, unit, layer, part);
      add(name("score"), "F32", units);
      if (isShadow && unit === "heads" && layer === 0) continue;
      if (rank !== null && !tensors.some((tensor) => tensor.name === name("down")))
        add(name("down"), "F16", rank, hiddenSize);
      add(name("up"), "F16", units, rank ?? hiddenSize);
      add(name("bias"), unit === "neurons" && layer > 0 ? "F16" : "F32", units);
    }
  return { metadata, tensors };
}

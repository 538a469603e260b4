/** A bundle of a few hundred bytes for a model that exists only as numbers, to be damaged in tests. */
import { createRng } from "../../src/sampling/rng.ts";
import {
  type BundleMetadata,
  type BundleModel,
  type BundleTensor,
  bundleTensorName,
  bundleVersion,
} from "../../src/sparsity/bundle.ts";
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

export function tinyBundle(): BundleParts {
  const { layers, hiddenSize, heads, ffnDim } = tinyBundleModel;
  const calibration = { rank: 2, density: 0.5, recall: 0.95, precision: 0.7 };
  const metadata: BundleMetadata = {
    version: bundleVersion,
    model: { ...tinyBundleModel },
    predictor: "per-layer",
    sources: { heads: "attention-input", neurons: "mlp-input" },
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
  for (let layer = 0; layer < layers; layer++) {
    add(bundleTensorName("per-layer", "heads", layer, "score"), "F32", heads);
    add(bundleTensorName("per-layer", "heads", layer, "up"), "F16", heads, hiddenSize);
    add(bundleTensorName("per-layer", "heads", layer, "bias"), "F32", heads);
    add(bundleTensorName("per-layer", "neurons", layer, "score"), "F32", ffnDim);
    add(bundleTensorName("per-layer", "neurons", layer, "down"), "F16", 2, hiddenSize);
    add(bundleTensorName("per-layer", "neurons", layer, "up"), "F16", ffnDim, 2);
    add(bundleTensorName("per-layer", "neurons", layer, "bias"), layer === 0 ? "F32" : "F16", ffnDim);
  }
  return { metadata, tensors };
}

/** Two thousand damaged bundles: each is refused by class, or means what a naive reader says it means. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { type Bundle, loadBundle, writeBundle } from "../../src/sparsity/bundle.ts";
import { type PredictorKind, predictorKinds } from "../../src/sparsity/predictor.ts";
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { BundleError, WeightsError } from "../../src/util/errors.ts";
import { toMatrix, transpose } from "../helpers/algebra.ts";
import {
  bitFlip,
  headerEdit,
  type Mutation,
  metadataEdit,
  parse,
  splice,
  truncation,
} from "../helpers/mutations.ts";
import { expectSame } from "../helpers/same.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { bundleKey, tinyBundle, tinyBundleModel } from "../helpers/tiny-bundle.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const file = join(folder, "damaged.safetensors");
const kernels = openReference();
afterAll(() => kernels.dispose());
const sound = {} as Record<PredictorKind, Uint8Array>;
beforeAll(async () => {
  for (const kind of predictorKinds) {
    const { metadata, tensors } = tinyBundle(kind);
    await writeBundle(file, metadata, tensors);
    sound[kind] = new Uint8Array(readFileSync(file));
  }
});

const others = [
  "0",
  "1",
  "-1",
  "1e9",
  "9007199254740993",
  '"I32"',
  '"F16"',
  '"neurons.9.up"',
  "[]",
  "[0,4]",
  "null",
];
const values: readonly unknown[] = [
  0,
  -1,
  1,
  2,
  3,
  0.5,
  1e300,
  2 ** 53,
  null,
  true,
  "",
  "x",
  "dense",
  "topK",
  "threshold",
  "mlp-input",
  "previous-block",
  "attention-input",
  "first-block",
  "per-layer",
  "shadow",
  [],
  {},
  [[]],
];

/** Compares everything that was loaded with what `JSON.parse` and slicing make of the bytes. */
async function checkAgainstNaiveReader(bundle: Bundle, bytes: Uint8Array): Promise<void> {
  const { header, data } = parse(bytes);
  const { __metadata__: texts, ...tensors } = JSON.parse(header);
  expect(bundle.metadata).toEqual(JSON.parse(texts[bundleKey]));
  expect(bundle.metadata.model).toEqual(tinyBundleModel);
  const widened = (name: string): Float32Array => {
    const { dtype, data_offsets } = tensors[name];
    const stored = data.slice(...(data_offsets as [number, number]));
    const halves = () => new Uint16Array(stored.buffer);
    if (dtype === "F32") return new Float32Array(stored.buffer);
    if (dtype === "F16") return Float32Array.from(halves(), f16ToNumber);
    return new Float32Array(Uint32Array.from(halves(), (bits) => bits << 16).buffer);
  };
  const read = async (tensor: Tensor): Promise<Float32Array> => {
    const length = tensor.shape.reduce((a, b) => a * b, 1);
    if (tensor.dtype === "f32") {
      const floats = new Float32Array(length);
      await kernels.read(tensor, floats);
      return floats;
    }
    const halves = new Uint16Array(length);
    await kernels.read(tensor, halves);
    if (tensor.dtype === "f16") return Float32Array.from(halves, f16ToNumber);
    return new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer);
  };
  const known = new Set<string>();
  const same = (name: string, loaded: Float32Array) => {
    known.add(name);
    expectSame(loaded, widened(name), `${name},`);
  };
  for (const unit of ["heads", "neurons"] as const)
    for (let layer = 0; layer < tinyBundleModel.layers; layer++) {
      same(`${unit}.${layer}.score`, bundle.statistics[unit][layer]!);
      const predictor = bundle.predictors[unit][layer]!;
      if (predictor === null) {
        expect(tensors[`${unit}.${layer}.up`]).toBeUndefined();
        expect(bundle.metadata.policy[unit][layer]!.kind).toBe("dense");
        continue;
      }
      expect(predictor.source).toBe(bundle.metadata.sources[unit]);
      for (const part of ["down", "up", "bias"] as const) {
        const tensor = predictor[part];
        const isShared = bundle.metadata.predictor === "shadow" && part === "down";
        const name = isShared ? `${unit}.down` : `${unit}.${layer}.${part}`;
        if (tensor === null) expect(tensors[name]).toBeUndefined();
        else {
          const values = await read(tensor);
          const isTransposed = part === "up" && predictor.down !== null;
          const byColumn = () => transpose(toMatrix(values, tensor.shape[1]!)).flat();
          same(name, isTransposed ? Float32Array.from(byColumn()) : values);
        }
      }
    }
  expect(known.size).toBe(Object.keys(tensors).length);
}

async function outcome(bytes: Uint8Array): Promise<"refused" | "same meaning"> {
  writeFileSync(file, bytes);
  const memory = watchMemory(kernels);
  try {
    const bundle = await loadBundle(kernels, file, tinyBundleModel);
    // Vectors are widened from 2 bytes to 4.
    expect(memory.bytes).toBeLessThanOrEqual(2 * bytes.length);
    await checkAgainstNaiveReader(bundle, bytes);
    bundle.dispose();
    return "same meaning";
  } catch (cause) {
    if (!(cause instanceof BundleError || cause instanceof WeightsError)) throw cause;
    expect(cause.message).toContain(file);
    expect(memory.bytes).toBe(0);
    return "refused";
  } finally {
    expect(memory.live.size).toBe(0);
    memory.end();
  }
}

describe("damaged bundles", () => {
  it("load when they are not damaged", async () => {
    for (const kind of predictorKinds) expect(await outcome(sound[kind]), kind).toBe("same meaning");
  });

  it.each([
    ["bit flips", bitFlip, 500],
    ["truncations", truncation, 200],
    ["splices", splice, 300],
    ["edits of the header", headerEdit(others), 450],
    ["edits of the metadata", metadataEdit(bundleKey, values), 450],
    [
      "two at once",
      fc.tuple(headerEdit(others), fc.oneof(metadataEdit(bundleKey, values), bitFlip)).map(
        ([a, b]): Mutation =>
          (bytes) => {
            const once = a(bytes);
            try {
              return b(once);
            } catch {
              return once; // no header left to edit
            }
          },
      ),
      100,
    ],
  ] as const)(
    "%s",
    async (_, mutation, runs) => {
      const outcomes = { refused: 0, "same meaning": 0 };
      const kinds = fc.constantFrom(...predictorKinds);
      const property = fc.asyncProperty(mutation, kinds, async (mutate, kind) => {
        outcomes[await outcome(mutate(sound[kind]))] += 1;
      });
      await fc.assert(property, {
        numRuns: runs,
        seed: 20260201,
        interruptAfterTimeLimit: 20_000,
        markInterruptAsFailure: true,
      });
      expect(outcomes.refused).toBeGreaterThan(runs / 10);
    },
    30_000,
  );
});

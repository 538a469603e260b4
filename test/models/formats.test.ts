/** Formats of weights on every backend, and what does not depend on the backend: accounts, blocks, refusals. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nativeInstructionSets, openNative } from "../../src/kernels/native/native.ts";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { fillMatrix, matrixSource } from "../../src/models/matrix-source.ts";
import { loadOpt } from "../../src/models/opt.ts";
import { isQuantized, numberToBf16, type WeightDtype, weightDtypes } from "../../src/tensor/dtype.ts";
import { byteLength } from "../../src/tensor/tensor.ts";
import { WeightsError } from "../../src/util/errors.ts";
import { openSafetensors, openWeights, writeSafetensors } from "../../src/weights/index.ts";
import { availableBackends } from "../helpers/backends.ts";
import { storiesFolder } from "../helpers/golden.ts";
import { plain, writeRandomCheckpoint } from "../helpers/random-checkpoint.ts";
import { expectSame } from "../helpers/same.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { watchMemory } from "../helpers/watch-memory.ts";
import { formatSuite } from "./formats.case.ts";

formatSuite("reference", openReference);
if (availableBackends.includes("native"))
  for (const instructionSet of nativeInstructionSets())
    formatSuite(`native ${instructionSet}`, () => openNative({ instructionSet, threads: 2 }));

const folder = temporaryFolder();

async function openStories(dtype: WeightDtype) {
  const kernels = openReference();
  const config = join(storiesFolder, "config.json");
  const weights = await openWeights(storiesFolder);
  const model = await loadOpt(kernels, weights, JSON.parse(readFileSync(config, "utf8")), config, { dtype });
  await weights.close();
  return model;
}

describe("accounts of bytes", () => {
  it.each(weightDtypes)("%s: every row weighs what it takes", async (dtype) => {
    const model = await openStories(dtype);
    const { layers, hiddenSize: d, ffnDim: n, heads, headDim, vocabSize } = model.shape;
    const { perNeuron, perActive, perHead, perRecovered, perWord } = model.weightBytes;
    const row = byteLength({ dtype, shape: [n, d] }) / n;
    expect([perNeuron, perActive]).toEqual([row, row]);
    expect(row * 8).toBe(
      { f32: 192 * 32, f16: 192 * 16, bf16: 192 * 16, int8: 192 * 8 + 32, int4: 256 * 4 + 256 }[dtype],
    );
    expect(perHead).toBeCloseTo(2 * headDim * row, 6);
    expect(perRecovered).toBe(perHead);
    const word = dtype === "int4" ? "int8" : dtype;
    expect(perWord).toBe(byteLength({ dtype: word, shape: [vocabSize, d] }) / vocabSize);
    const matrices = layers * (2 * n * row + 2 * heads * perHead) + (vocabSize + 514) * perWord;
    const vectors = 4 * (layers * (9 * d + n) + 2 * d);
    expect(Math.abs(model.bytes - matrices - vectors)).toBeLessThan(64); // codes end at a multiple of 64 bytes
    model.kernels.dispose();
  });
});

describe("reading in blocks", () => {
  it("turned or not, gives the same rows however many come at once", async () => {
    const file = join(folder, "one.safetensors");
    const [rows, columns] = [37, 45];
    const values = Float32Array.from({ length: rows * columns }, (_, i) => i);
    await writeSafetensors(file, [
      { name: "w", dtype: "F32", shape: [rows, columns], data: new Uint8Array(values.buffer) },
    ]);
    const weights = await openSafetensors(file);
    const kernels = openReference();
    for (const isTurned of [false, true]) {
      const source = matrixSource(weights, "w", isTurned, 800);
      const [n, d] = source.shape;
      expect([n, d]).toEqual(isTurned ? [columns, rows] : [rows, columns]);
      await fc.assert(
        fc.asyncProperty(fc.nat(n - 1), fc.nat(n - 1), async (a, b) => {
          const [first, count] = [Math.min(a, b), Math.abs(a - b) + 1];
          const into = new Float32Array(count * d);
          await source.read(new Uint8Array(into.buffer), first, count);
          into.forEach((value, i) => {
            const [r, c] = [first + Math.floor(i / d), i % d];
            expect(value).toBe(isTurned ? c * columns + r : r * columns + c);
          });
        }),
        { numRuns: 30, seed: 3 },
      );
      for (const dtype of weightDtypes) {
        const out = [1, 1000, 1e9].map(async (limit) => {
          const tensor = kernels.allocate(dtype, [n, d]);
          await fillMatrix(kernels, tensor, source, undefined, limit);
          const into = isQuantized(dtype)
            ? new Uint8Array(byteLength(tensor))
            : new (dtype === "f32" ? Float32Array : Uint16Array)(n * d);
          await kernels.read(tensor, into);
          return into;
        });
        const [one, some, all] = await Promise.all(out);
        expectSame(one!, all!);
        expectSame(some!, all!);
      }
    }
    kernels.dispose();
    await weights.close();
  });

  it("ends when told, and leaves no memory behind but the model's", async () => {
    const kernels = openReference();
    const watch = watchMemory(kernels);
    const config = join(storiesFolder, "config.json");
    const json = JSON.parse(readFileSync(config, "utf8"));
    const weights = await openWeights(storiesFolder);
    const model = await loadOpt(kernels, weights, json, config, { dtype: "int4" });
    model.dispose();
    expect(watch.live.size).toBe(0);
    const controller = new AbortController();
    const loading = loadOpt(kernels, weights, json, config, {
      dtype: "int8",
      signal: controller.signal,
      onTensor: (done) => void (done === 5 && controller.abort(new Error("enough"))),
    });
    await expect(loading).rejects.toThrow("enough");
    await weights.close();
    kernels.dispose();
  });
});

describe("values that a format cannot hold", () => {
  /** A checkpoint in bf16 with one value replaced. */
  async function withValue(name: string, index: number, value: number): Promise<string> {
    const at = join(folder, `${name} ${value}`);
    await writeRandomCheckpoint(at, plain, "bf16");
    const file = join(at, "model.safetensors");
    const weights = await openSafetensors(file);
    const { begin } = weights.tensors.get(name)!;
    await weights.close();
    const bytes = readFileSync(file);
    bytes.writeUInt16LE(numberToBf16(value), begin + 2 * index);
    writeFileSync(file, bytes);
    return at;
  }

  async function loadAs(at: string, dtype: WeightDtype): Promise<void> {
    const kernels = openReference();
    const config = join(at, "config.json");
    const weights = await openWeights(at);
    try {
      const json = JSON.parse(readFileSync(config, "utf8"));
      await loadOpt(kernels, weights, json, config, { dtype });
    } finally {
      await weights.close();
      kernels.dispose();
    }
  }

  it("are named, with their place in the file", async () => {
    const fc1 = "model.decoder.layers.1.fc1.weight"; // [52, 24]
    const fc2 = "model.decoder.layers.1.fc2.weight"; // [24, 52], turned
    for (const [name, place] of [
      [fc1, /fc1.weight": the value at \[4,5\] is NaN, which int4 cannot hold/],
      [fc2, /fc2.weight": the value at \[1,49\] is NaN, which int4 cannot hold/],
    ] as const)
      await expect(loadAs(await withValue(name, 101, Number.NaN), "int4")).rejects.toThrow(place);
    const infinite = await withValue(fc1, 0, Number.NEGATIVE_INFINITY);
    for (const dtype of ["int8", "int4", "f16"] as const) {
      await expect(loadAs(infinite, dtype)).rejects.toThrow(WeightsError);
      await expect(loadAs(infinite, dtype)).rejects.toThrow(/\[0,0\] is -Infinity/);
    }
    const large = await withValue(fc1, 3, 1e6);
    await expect(loadAs(large, "f16")).rejects.toThrow(/\[0,3\] is 999424, which f16 cannot hold/);
    await expect(loadAs(large, "int4")).rejects.toThrow(/which int4 cannot hold/);
    for (const dtype of ["f32", "bf16", "int8"] as const) await loadAs(large, dtype);
  });
});

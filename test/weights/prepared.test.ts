/** Weights that say what their bytes mean: what they may say, and damaged ones. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { quantizedLayout } from "../../src/tensor/quantized.ts";
import { WeightsError } from "../../src/util/errors.ts";
import {
  createSafetensors,
  openSafetensors,
  openWeights,
  type Prepared,
  preparedKey,
  type Weights,
} from "../../src/weights/index.ts";
import {
  bitFlip,
  headerEdit,
  type Mutation,
  metadataEdit,
  parse,
  splice,
  truncation,
} from "../helpers/mutations.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const folder = temporaryFolder();
const file = join(folder, "model.safetensors");

const sound: Prepared = {
  version: 2,
  dtype: "int4",
  source: "ab".repeat(32),
  quantized: { a: { dtype: "int4", shape: [3, 70] }, b: { dtype: "int8", shape: [2, 5] } },
};

/** A file of two quantized matrices and a vector. */
async function write(metadata: unknown, bytes: Record<string, number> = {}): Promise<Uint8Array> {
  const plan = [
    { name: "a", dtype: "U8", shape: [bytes["a"] ?? quantizedLayout("int4", 3, 70).bytes] },
    { name: "b", dtype: "U8", shape: [bytes["b"] ?? quantizedLayout("int8", 2, 5).bytes] },
    { name: "bias", dtype: "F32", shape: [5] },
  ] as const;
  const text = typeof metadata === "string" ? metadata : JSON.stringify(metadata);
  const writer = await createSafetensors(file, plan, { [preparedKey]: text }, { alignment: 64 });
  for (const { name, shape, dtype } of plan)
    await writer.write(name, 0, new Uint8Array(shape[0]! * (dtype === "F32" ? 4 : 1)).fill(7));
  await writer.finish();
  return new Uint8Array(readFileSync(file));
}

describe("prepared weights", () => {
  it("give quantized matrices their dtype and shape, each at a multiple of 64 bytes in the file", async () => {
    await write(sound);
    const weights = await openSafetensors(file);
    expect(weights.prepared).toEqual(sound);
    expect(weights.tensors.get("a")).toMatchObject({ dtype: "int4", shape: [3, 70] });
    expect(weights.tensors.get("b")).toMatchObject({ dtype: "int8", shape: [2, 5] });
    expect(weights.tensors.get("bias")).toMatchObject({ dtype: "F32", shape: [5] });
    for (const name of ["a", "b", "bias"]) expect(weights.tensors.get(name)!.begin % 64).toBe(0);
    const bytes = new Uint8Array(quantizedLayout("int4", 3, 70).bytes);
    await weights.read("a", bytes);
    expect(bytes.every((byte) => byte === 7)).toBe(true);
    await weights.close();
  });

  it("are other weights to those that say nothing of the kind", async () => {
    const weights = await openWeights("models/stories-4m");
    expect(weights.prepared).toBeNull();
    await weights.close();
  });

  it.each<[string, unknown, RegExp]>([
    ["no JSON", "{", /metadata "dejavu-weights": not JSON/],
    ["null", null, /version undefined, this program reads 2/],
    ["another version", { ...sound, version: 1 }, /version 1, this program reads 2/],
    ["another format", { ...sound, dtype: "int3" }, /dtype: /],
    ["no source", { ...sound, source: "" }, /source: /],
    ["more than is known", { ...sound, scale: 1 }, /scale/],
    ["a float matrix", { ...sound, quantized: { a: { dtype: "f16", shape: [3, 70] } } }, /a\.dtype/],
    ["three dimensions", { ...sound, quantized: { a: { dtype: "int4", shape: [3, 7, 10] } } }, /a\.shape/],
    ["a negative extent", { ...sound, quantized: { a: { dtype: "int4", shape: [-3, 70] } } }, /a\.shape/],
    [
      "no tensor",
      { ...sound, quantized: { c: { dtype: "int4", shape: [3, 70] } } },
      /"c": .*not in the file/,
    ],
    ["a vector", { ...sound, quantized: { bias: { dtype: "int4", shape: [1, 5] } } }, /"bias": it is F32/],
    [
      "a row more",
      { ...sound, quantized: { a: { dtype: "int4", shape: [4, 70] } } },
      /\[4,70\] takes \d+ bytes/,
    ],
    ["more columns", { ...sound, quantized: { a: { dtype: "int4", shape: [3, 129] } } }, /takes/],
    [
      "the other format",
      { ...sound, quantized: { a: { dtype: "int8", shape: [3, 70] } } },
      /int8 \[3,70\] takes/,
    ],
    [
      "sizes that overflow",
      { ...sound, quantized: { a: { dtype: "int8", shape: [2 ** 32, 2 ** 32] } } },
      /takes/,
    ],
  ])("are refused when they say: %s", async (_, metadata, message) => {
    await write(metadata);
    await expect(openSafetensors(file)).rejects.toThrow(WeightsError);
    await expect(openSafetensors(file)).rejects.toThrow(message);
    await expect(openSafetensors(file)).rejects.toThrow(/dejavu quantize/);
  });

  it("are refused when a matrix has a byte too many or too few", async () => {
    for (const change of [-1, 1]) {
      await write(sound, { a: quantizedLayout("int4", 3, 70).bytes + change });
      await expect(openSafetensors(file)).rejects.toThrow(/int4 \[3,70\] takes/);
    }
  });
});

describe("damaged prepared weights", () => {
  let bytes: Uint8Array;
  beforeAll(async () => {
    bytes = await write(sound);
  });

  /** What the tensors are must be what a naive reader makes of the metadata, with as many bytes as that takes. */
  function checkAgainstNaiveReader({ tensors, prepared }: Weights, damaged: Uint8Array): void {
    const texts = JSON.parse(parse(damaged).header).__metadata__ ?? {};
    const told = texts[preparedKey] === undefined ? null : JSON.parse(texts[preparedKey]);
    expect(prepared).toEqual(told);
    for (const { name, dtype, shape, begin, end } of tensors.values()) {
      expect(dtype === "int8" || dtype === "int4").toBe(told?.quantized[name] !== undefined);
      if (dtype !== "int8" && dtype !== "int4") continue;
      expect({ dtype, shape }).toEqual(told.quantized[name]);
      expect(end - begin).toBe(quantizedLayout(dtype, shape[0]!, shape[1]!).bytes);
      expect(end).toBeLessThanOrEqual(damaged.length);
    }
  }

  const values = [
    0,
    -1,
    1,
    2,
    3,
    70,
    0.5,
    1e300,
    2 ** 53,
    null,
    true,
    "",
    "int8",
    "int4",
    "f16",
    [],
    {},
    [3, 70],
  ];
  const words = ['"U8"', '"F32"', "[0,4]", "[]", "0", "-1", "9007199254740993", "null", '"a"'];
  it.each<[string, fc.Arbitrary<Mutation>, number]>([
    ["bit flips", bitFlip, 500],
    ["truncations", truncation, 200],
    ["splices", splice, 300],
    ["edits of the header", headerEdit(words), 400],
    ["edits of the metadata", metadataEdit(preparedKey, values), 600],
  ])("%s: are refused, or mean what they say", async (_, mutation, runs) => {
    let refused = 0;
    const property = fc.asyncProperty(mutation, async (mutate) => {
      const damaged = mutate(bytes);
      writeFileSync(file, damaged);
      const weights = await openSafetensors(file).catch((error: unknown) => {
        expect(error).toBeInstanceOf(WeightsError);
        return null;
      });
      if (weights === null) {
        refused++;
        return;
      }
      await weights.close();
      checkAgainstNaiveReader(weights, damaged);
    });
    await fc.assert(property, { numRuns: runs, seed: 20260104 });
    expect(refused).toBeGreaterThan(runs / 10);
  });
});

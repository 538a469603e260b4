import { existsSync, readdirSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WeightsError } from "../../src/util/errors.ts";
import {
  createSafetensors,
  elementBytes,
  openSafetensors,
  type TensorData,
  type TensorDtype,
  writeSafetensors,
} from "../../src/weights/index.ts";
import { expectSame } from "../helpers/same.ts";
import { temporaryFolder } from "./files.ts";

const dtypes = Object.keys(elementBytes) as TensorDtype[];
const text = fc
  .string({ unit: "binary", maxLength: 12 })
  .filter((name) => !/^__(?:proto|metadata)__$/.test(name));
const tensor = fc
  .record({ name: text, dtype: fc.constantFrom(...dtypes), shape: fc.array(fc.nat(4), { maxLength: 4 }) })
  .chain(({ name, dtype, shape }) => {
    const bytes = shape.reduce((product, extent) => product * extent, elementBytes[dtype]);
    const data = fc.uint8Array({ minLength: bytes, maxLength: bytes });
    return data.map((data): TensorData => ({ name, dtype, shape, data }));
  });
const tensorSet = fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 8 });

describe("writing and reading", () => {
  it("gives back what was written, aligned, and the same bytes in any order", async () => {
    const folder = await temporaryFolder();
    const file = join(folder, "a.safetensors");
    await fc.assert(
      fc.asyncProperty(
        tensorSet,
        fc.dictionary(text, text, { noNullPrototype: true }),
        async (tensors, metadata) => {
          await writeSafetensors(file, tensors, metadata);
          const written = await readFile(file);
          await writeSafetensors(file, tensors.toReversed(), metadata);
          expect((await readFile(file)).equals(written)).toBe(true);
          const weights = await openSafetensors(file);
          expect(Object.fromEntries(weights.metadata)).toEqual(metadata);
          expect(weights.tensors.size).toBe(tensors.length);
          for (const { name, dtype, shape, data } of tensors) {
            const info = weights.tensors.get(name)!;
            expect(info).toMatchObject({ dtype, shape });
            expect(info.begin % elementBytes[dtype]).toBe(0);
            const read = new Uint8Array(data.length);
            await weights.read(name, read);
            expectSame(read, data);
          }
          await weights.close();
        },
      ),
      { numRuns: 60 },
    );
    expect(readdirSync(folder)).toEqual(["a.safetensors"]);
  });

  it("starts the data at a multiple of 64", async () => {
    const file = join(await temporaryFolder(), "x");
    await writeSafetensors(file, [{ name: "x", dtype: "F32", shape: [1], data: new Uint8Array(4) }]);
    const weights = await openSafetensors(file);
    expect(weights.tensors.get("x")!.begin % 64).toBe(0);
    await weights.close();
  });
});

describe("data that streams in", () => {
  const plan = [
    { name: "b", dtype: "U8", shape: [6] },
    { name: "a", dtype: "U8", shape: [2] },
  ] as const;

  it("may come in any order", async () => {
    const file = join(await temporaryFolder(), "x");
    const writer = await createSafetensors(file, plan, { k: "v" });
    await writer.write("b", 3, Uint8Array.of(4, 5, 6));
    await writer.write("a", 0, Uint8Array.of(7, 8));
    await writer.write("b", 0, Uint8Array.of(1, 2, 3));
    expect(existsSync(file)).toBe(false);
    await writer.finish();
    const weights = await openSafetensors(file);
    const read = new Uint8Array(6);
    await weights.read("b", read);
    expect([...read]).toEqual([1, 2, 3, 4, 5, 6]);
    await weights.close();
    await expect(writer.write("a", 0, Uint8Array.of(1))).rejects.toThrow(WeightsError);
    await expect(writer.finish()).rejects.toThrow(WeightsError);
    await writer.abandon();
    expect(existsSync(file)).toBe(true);
  });

  it("is refused outside the plan", async () => {
    const file = join(await temporaryFolder(), "x");
    const writer = await createSafetensors(file, plan);
    await expect(writer.write("c", 0, Uint8Array.of(1))).rejects.toThrow(/not planned/);
    await expect(writer.write("a", 1, Uint8Array.of(1, 2))).rejects.toThrow(/exceed its 2 bytes/);
    await expect(writer.write("a", -1, Uint8Array.of(1))).rejects.toThrow(WeightsError);
    await writer.abandon();
    await writer.abandon();
    expect(readdirSync(dirname(file))).toEqual([]);
  });

  it("must be whole at the end", async () => {
    const file = join(await temporaryFolder(), "x");
    const writer = await createSafetensors(file, plan);
    await writer.write("a", 0, new Uint8Array(2));
    await expect(writer.finish()).rejects.toThrow(/"b": 0 of 6 bytes were written/);
    expect(readdirSync(dirname(file))).toEqual([]);
  });
});

describe("a write that fails", () => {
  const good = { name: "x", dtype: "U8", shape: [2], data: Uint8Array.of(1, 2) } as const;

  it.each([
    ["data too short", [{ ...good, data: Uint8Array.of(1) }], /1 of 2 bytes/],
    ["data too long", [{ ...good, data: Uint8Array.of(1, 2, 3) }], /exceed its 2 bytes/],
    ["one name twice", [good, good], /duplicate key "x"/],
    ["a reserved name", [{ ...good, name: "__proto__" }], /__proto__/],
    ["a reserved name", [{ ...good, name: "__metadata__" }], /expected a string/],
    ["a name that UTF-8 cannot hold", [{ ...good, name: "\ud800" }], /surrogate/],
    ["a negative extent", [{ ...good, shape: [-2] }], /has no size/],
    ["too many dimensions", [{ ...good, shape: [2, 1, 1, 1, 1, 1, 1, 1, 1] }], /more than 8/],
  ] as const)("%s: leaves the old file and nothing else", async (_, tensors, reason) => {
    const file = join(await temporaryFolder(), "x");
    await writeFile(file, "old");
    await expect(writeSafetensors(file, tensors)).rejects.toThrow(WeightsError);
    await expect(writeSafetensors(file, tensors)).rejects.toThrow(reason);
    expect(await readFile(file, "utf8")).toBe("old");
    expect(readdirSync(dirname(file))).toEqual(["x"]);
  });

  it("aborted: leaves nothing", async () => {
    const file = join(await temporaryFolder(), "x");
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(writeSafetensors(file, [good], {}, signal)).rejects.toThrow("enough");
    expect(readdirSync(dirname(file))).toEqual([]);
  });

  it("into a folder that is not there, or over a folder", async () => {
    const folder = await temporaryFolder();
    await expect(writeSafetensors(join(folder, "no", "x"), [good])).rejects.toThrow(/cannot be written/);
    await mkdir(join(folder, "x"));
    await expect(writeSafetensors(join(folder, "x"), [good])).rejects.toThrow(WeightsError);
    expect(readdirSync(folder)).toEqual(["x"]);
  });
});

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { encodeHeader } from "../checkpoints/gguf.ts";
import { gpt2BytesPerToken, gpt2FileBytes, gpt2Tensors, writeGpt2 } from "../checkpoints/gpt2.ts";
import { formats } from "../formats.ts";
import { shapeNamed } from "../shapes.ts";
import { matrixBytes } from "./matrix-bytes.ts";

const folder = mkdtempSync(join(tmpdir(), "peers-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("a header is magic, version, counts, metadata and tensors with aligned offsets", () => {
  const tensors = [
    { name: "a", type: "f32", dimensions: [3] },
    { name: "b", type: "q4_0", dimensions: [32, 2] },
  ] as const;
  const bytes = encodeHeader(new Map([["k", { type: "u32", value: 7 }]]), tensors);
  expect(bytes.subarray(0, 4).toString()).toBe("GGUF");
  expect(bytes.readUInt32LE(4)).toBe(3);
  expect([bytes.readBigUInt64LE(8), bytes.readBigUInt64LE(16)]).toEqual([2n, 1n]);
  // key: length and "k"; then type 4 (u32) and the value
  expect(bytes.subarray(24, 33).toString("latin1")).toBe("\x01\0\0\0\0\0\0\0k");
  expect([bytes.readUInt32LE(33), bytes.readUInt32LE(37)]).toEqual([4, 7]);
  // tensor a: 9 bytes of name, 1 dimension of 3, type 0, offset 0; b starts at 32 though a has 12 bytes
  expect(bytes.readUInt32LE(41 + 9)).toBe(1);
  expect(bytes.readBigUInt64LE(41 + 13)).toBe(3n);
  expect(bytes.readBigUInt64LE(bytes.length - 8)).toBe(32n);
  expect(bytes.readUInt32LE(bytes.length - 12)).toBe(2);
});

test.each(formats)("the %s file has the size that is foretold", async (format) => {
  const shape = shapeNamed("tiny");
  const path = join(folder, `${format}.gguf`);
  await writeGpt2(path, shape, format);
  const bytes = readFileSync(path);
  expect(bytes.length).toBe(gpt2FileBytes(shape, format));
  expect(bytes.readBigUInt64LE(8)).toBe(BigInt(gpt2Tensors(shape, format).length));
});

test("a token reads all matrices once, in bytes of the format", () => {
  const shape = shapeNamed("opt-1.3b");
  const bits = { int4: 4.5, f16: 16, q8: 8.5 };
  for (const format of formats) {
    const rest = gpt2BytesPerToken(shape, format) - matrixBytes(shape, bits[format]);
    expect(rest).toBeGreaterThan(0); // biases and norms
    expect(rest).toBeLessThan(4e6);
  }
});

test("a file that is stopped leaves nothing behind", async () => {
  const path = join(folder, "stopped.gguf");
  await expect(writeGpt2(path, shapeNamed("tiny"), "int4", AbortSignal.abort())).rejects.toThrow();
  expect(() => readFileSync(path)).toThrow("ENOENT");
  expect(() => readFileSync(`${path}.partial`)).toThrow("ENOENT");
});

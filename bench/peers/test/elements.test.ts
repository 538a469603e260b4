import { expect, test } from "vitest";
import { bytesOf, type ElementType, elementSources, randomTensor } from "../checkpoints/elements.ts";

const halfValue = (bits: number) =>
  (bits & 0x8000 ? -1 : 1) * 2 ** (((bits >> 10) & 31) - 15) * (1 + (bits & 0x3ff) / 1024);

test.each(Object.keys(elementSources) as ElementType[])(
  "%s comes in the bytes that are asked for",
  (type) => {
    const elements = 3_000_000 - (3_000_000 % elementSources[type].elements);
    let bytes = 0;
    for (const piece of randomTensor(type, elements)) bytes += piece.length;
    expect(bytes).toBe(bytesOf(type, elements));
  },
);

test("halves are normal numbers of about the size of trained weights", () => {
  const [piece] = randomTensor("f16", 4096);
  for (let i = 0; i < 4096; i++) {
    const magnitude = Math.abs(halfValue(piece!.readUInt16LE(2 * i)));
    expect(magnitude).toBeGreaterThanOrEqual(2 ** -6);
    expect(magnitude).toBeLessThan(2 ** -5);
  }
});

test("blocks have positive scales", () => {
  for (const type of ["q4_0", "q8_0"] as const) {
    const [piece] = randomTensor(type, 32 * 1000);
    for (let block = 0; block < 1000; block++)
      expect(halfValue(piece!.readUInt16LE(block * elementSources[type].bytes))).toBeGreaterThan(0);
  }
});

test("elements that do not fill blocks are refused", () => {
  expect(() => bytesOf("q4_0", 33)).toThrow("not whole blocks");
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRng } from "../../src/sampling/rng.ts";

const seeds = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const draw = (seed: number, count = 8): number[] => {
  const rng = createRng(seed);
  return Array.from({ length: count }, () => rng.nextUint32());
};

describe("createRng", () => {
  it("gives the sequence of xoshiro128** as published", () => {
    // The state follows from the seed; the recurrence is checked here in BigInt arithmetic, by its definition.
    const rng = createRng(0);
    const mask = 0xffffffffn;
    const rotate = (word: bigint, bits: bigint): bigint => ((word << bits) | (word >> (32n - bits))) & mask;
    const mix = (word: bigint): bigint => {
      let mixed = ((word ^ (word >> 16n)) * 0x21f0aaadn) & mask;
      mixed = ((mixed ^ (mixed >> 15n)) * 0x735a2d97n) & mask;
      return mixed ^ (mixed >> 15n);
    };
    let [a, b, c, d] = [1n, 2n, 3n, 4n].map((i) => mix((i * 0x9e3779b9n) & mask)) as [
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    for (let i = 0; i < 100; i++) {
      expect(BigInt(rng.nextUint32())).toBe((rotate((b * 5n) & mask, 7n) * 9n) & mask);
      const shifted = (b << 9n) & mask;
      c ^= a;
      d ^= b;
      b ^= c;
      a ^= d;
      c ^= shifted;
      d = rotate(d, 11n);
    }
  });

  it("gives the same sequence for the same seed, and another for another", () => {
    fc.assert(
      fc.property(seeds, seeds, (a, b) => {
        expect(draw(a)).toEqual(draw(a));
        if (a !== b) expect(draw(a)).not.toEqual(draw(b));
      }),
    );
  });

  it("tells seeds apart that differ in their high bits only", () => {
    const sequences = [0, 1, 2, 3].map((high) => draw(high * 2 ** 32 + 7).join());
    expect(new Set(sequences).size).toBe(4);
  });

  it("keeps to its ranges", () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 2 ** 32 }), (seed, n) => {
        const rng = createRng(seed);
        const float = rng.next();
        expect(float >= 0 && float < 1).toBe(true);
        const integer = rng.nextInt(n);
        expect(Number.isInteger(integer) && integer >= 0 && integer < n).toBe(true);
      }),
    );
  });

  it("is even", () => {
    const rng = createRng(1);
    const counts = new Array<number>(6).fill(0);
    let sum = 0;
    for (let i = 0; i < 60_000; i++) {
      counts[rng.nextInt(6)]! += 1;
      sum += rng.next();
    }
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400); // 4.4 standard deviations
    expect(Math.abs(sum / 60_000 - 0.5)).toBeLessThan(0.005);
  });

  it("refuses seeds and ranges that make no sense", () => {
    for (const seed of [-1, 0.5, Number.NaN, 2 ** 53]) expect(() => createRng(seed)).toThrow(RangeError);
    for (const n of [0, -1, 1.5, 2 ** 32 + 1, Number.NaN])
      expect(() => createRng(1).nextInt(n)).toThrow(RangeError);
  });
});

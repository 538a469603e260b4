/** The cut of a predictor's logits against a naive search. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nextBelow, operatingPoint } from "../../src/train/operating-point.ts";

const float = (options: fc.FloatConstraints = {}) =>
  fc.float({ noNaN: true, noDefaultInfinity: true, ...options });

describe("the operating point", () => {
  /** Many ties, and zeros of both signs. */
  const logit = fc.oneof(fc.constantFrom(-1, -0, 0, 0.5, 2), float({ min: -3, max: 3 }), float());
  const problem = fc.array(fc.tuple(logit, fc.boolean()), { minLength: 1, maxLength: 60 });
  const recall = fc.oneof(
    fc.constantFrom(1, 0.94, 0.95, 0.9, 0.5, 0.07, 0.1, 1 / 3, 0.29, 0.57, 0.58),
    fc.double({ min: 1e-9, max: 1, noNaN: true }),
  );

  it("reaches the recall, and no higher threshold does", () => {
    const property = fc.property(problem, recall, (pairs, wanted) => {
      const logits = Float32Array.from(pairs, ([value]) => value);
      const active = Uint8Array.from(pairs, ([, mark]) => (mark ? 1 : 0));
      const positives = active.reduce((a, b) => a + b, 0);
      const point = operatingPoint(logits, active, wanted);
      if (positives === 0) {
        expect(point).toEqual({ threshold: 0, density: 0, recall: 1, precision: 1 });
        return;
      }
      const cut = (threshold: number) => {
        const chosen = [...logits.keys()].filter((i) => logits[i]! > threshold);
        const caught = chosen.filter((i) => active[i] === 1).length;
        return {
          density: chosen.length / logits.length,
          recall: caught / positives,
          precision: chosen.length > 0 ? caught / chosen.length : 1,
        };
      };
      const { threshold, ...shares } = point;
      expect(shares).toEqual(cut(threshold));
      expect(shares.recall).toBeGreaterThanOrEqual(wanted);
      // Any threshold that excludes one more logit than this one does is too high.
      const lowestChosen = Math.min(...[...logits].filter((value) => value > threshold));
      expect(cut(lowestChosen).recall).toBeLessThan(wanted);
    });
    fc.assert(property, { numRuns: 3000, seed: 1 });
  });

  it.each([
    [0.28, 25, 7],
    [0.14, 50, 7],
    [0.56, 100, 56],
    [0.57, 100, 57],
  ])("keeps no more than it must for a recall of %d of %i", (wanted, positives, kept) => {
    const logits = Float32Array.from({ length: positives }, (_, i) => i);
    const point = operatingPoint(logits, new Uint8Array(positives).fill(1), wanted);
    expect(point.density * positives).toBeCloseTo(kept, 9);
  });

  it("keeps all of equal logits, and counts what that costs", () => {
    const logits = Float32Array.of(1, 1, 1, 1, 0);
    const active = Uint8Array.of(1, 0, 0, 0, 1);
    expect(operatingPoint(logits, active, 0.5)).toMatchObject({ density: 0.8, recall: 0.5, precision: 0.25 });
  });

  it("gives a predictor that cannot tell units apart a density of 1", () => {
    const point = operatingPoint(new Float32Array(50).fill(3), new Uint8Array(50).fill(1, 0, 5), 0.9);
    expect(point).toMatchObject({ density: 1, recall: 1, precision: 0.1 });
  });
});

describe("nextBelow", () => {
  it("is below, with no float32 in between", () => {
    const property = fc.property(float(), (value) => {
      const below = nextBelow(value);
      expect(below).toBeLessThan(value);
      expect(Math.fround(below)).toBe(below);
      if (Number.isFinite(below)) {
        const middle = Math.fround(below / 2 + value / 2);
        expect(middle === below || middle === value || Object.is(middle + 0, value + 0)).toBe(true);
      }
    });
    fc.assert(property, { numRuns: 5000, seed: 1 });
  });

  it.each([
    [0, -(2 ** -149)],
    [-0, -(2 ** -149)],
    [2 ** -149, 0],
    [1, 1 - 2 ** -24],
    [-1, -1 - 2 ** -23],
  ])("of %s is %s", (value, below) => {
    expect(nextBelow(value) + 0).toBe(below);
  });
});

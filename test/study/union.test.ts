import { describe, expect, it } from "vitest";
import { createRng } from "../../src/sampling/rng.ts";
import { addUnit, type Bits, emptySet } from "../../src/study/math.ts";
import { anyTokenOverlap, batchUnions, type Sample } from "../../src/study/union.ts";

const units = 40;
function bits(...of: number[]): Bits {
  const set = emptySet(units);
  for (const unit of of) addUnit(set, unit);
  return set;
}

/** One layer; the predictor adds unit 39. */
const sample = (...of: number[]): Sample => ({
  trueSets: [bits(...of)],
  predictedSets: [bits(...of, 39)],
});

describe("unions of batches", () => {
  /** Ten documents whose tokens need two units each and share none. */
  const apart = Array.from({ length: 10 }, (_, d) => [sample(2 * d, 2 * d + 1)]);

  it("take every token from another document", () => {
    const result = batchUnions(apart, [1, 4, 10], 5, units, true, createRng(1));
    expect(result.map(({ batch }) => batch)).toEqual([1, 4, 10]);
    for (const { batch, true: own, predicted, layers } of result) {
      expect(own).toBeCloseTo((2 * batch) / units, 12);
      expect(predicted).toBeCloseTo((2 * batch + 1) / units, 12);
      expect(layers[0]!.true).toBe(own);
    }
  });

  it("leave out sizes that there are no documents for", () => {
    expect(batchUnions(apart, [8, 16], 2, units, false, createRng(1))).toHaveLength(1);
  });

  it("are all units where the predictor leaves a layer dense, and unknown without one", () => {
    const dense = apart.map(([one]) => [{ ...one!, predictedSets: [null] }]);
    expect(batchUnions(dense, [2], 2, units, true, createRng(1))[0]!.predicted).toBe(1);
    expect(batchUnions(dense, [2], 2, units, false, createRng(1))[0]!.predicted).toBeNull();
  });

  it("do not grow where all tokens need the same", () => {
    const alike = Array.from({ length: 6 }, () => [sample(1, 2), sample(1, 2)]);
    const shares = batchUnions(alike, [1, 2, 4], 3, units, false, createRng(1)).map((u) => u.true);
    for (const share of shares) expect(share).toBeCloseTo(2 / units, 12);
    expect(anyTokenOverlap(alike, 5, createRng(1))).toEqual([1]);
  });

  it("overlap between documents is what two of them share", () => {
    expect(anyTokenOverlap(apart, 20, createRng(1))).toEqual([0]);
    const half = [[sample(1, 2, 3)], [sample(2, 3, 4)]];
    expect(anyTokenOverlap(half, 20, createRng(1))[0]).toBeCloseTo(2 / 4, 12);
    expect(anyTokenOverlap([[sample(1)]], 3, createRng(1))).toEqual([1]);
  });
});

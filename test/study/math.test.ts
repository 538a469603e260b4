/** The arithmetic of a study against the obvious way to do it. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  addUnit,
  type Bits,
  cosine,
  emptySet,
  jaccard,
  knee,
  leastKnee,
  size,
  unionSize,
} from "../../src/study/math.ts";
import { quantile } from "../../src/util/quantile.ts";

const units = 70;
const members = fc.uniqueArray(fc.integer({ min: 0, max: units - 1 }));
function bits(of: readonly number[]): Bits {
  const set = emptySet(units);
  for (const unit of of) addUnit(set, unit);
  return set;
}

describe("sets as bits", () => {
  it("have the size, the overlap and the union of sets of numbers", () => {
    fc.assert(
      fc.property(members, members, members, (a, b, c) => {
        const [setA, setB] = [new Set(a), new Set(b)];
        const both = a.filter((unit) => setB.has(unit)).length;
        const either = new Set([...a, ...b]).size;
        expect(size(bits(a))).toBe(setA.size);
        expect(jaccard(bits(a), bits(b))).toBe(either === 0 ? 1 : both / either);
        expect(unionSize([bits(a), bits(b), bits(c)])).toBe(new Set([...a, ...b, ...c]).size);
      }),
    );
  });

  it("hold the unit with the highest bit of a word", () => {
    expect(size(bits([31, 63]))).toBe(2);
    expect(jaccard(bits([31]), bits([31]))).toBe(1);
    expect(unionSize([])).toBe(0);
  });
});

describe("cosine", () => {
  const values = fc.array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: 6, maxLength: 6 });

  it("is the scalar product of unit vectors, of the part asked for", () => {
    fc.assert(
      fc.property(values, values, (a, b) => {
        const [p, q] = [a.slice(2, 5), b.slice(2, 5)];
        const norm = (v: number[]) => Math.hypot(...v);
        fc.pre(norm(p) > 1e-3 && norm(q) > 1e-3);
        const expected = p.reduce((sum, x, i) => sum + (x / norm(p)) * (q[i]! / norm(q)), 0);
        expect(cosine(Float32Array.from(a), Float32Array.from(b), 2, 3)).toBeCloseTo(expected, 9);
      }),
    );
  });

  it("is 1, −1 and 0 where it must be", () => {
    const a = Float32Array.of(3, 4);
    expect(cosine(a, a)).toBeCloseTo(1, 12);
    expect(cosine(a, Float32Array.of(-3, -4))).toBeCloseTo(-1, 12);
    expect(cosine(a, Float32Array.of(-4, 3))).toBe(0);
    expect(cosine(a, Float32Array.of(0, 0))).toBe(0);
  });
});

describe("quantile", () => {
  it("meets values and lies between neighbours", () => {
    expect([0, 0.25, 0.5, 1].map((q) => quantile([1, 2, 3, 5], q))).toEqual([1, 1.75, 2.5, 5]);
    expect(quantile([7], 0.05)).toBe(7);
  });
});

describe("the knee", () => {
  const at = (...points: [number, number][]) => knee(points.map(([x, y]) => ({ x, y })));

  it("is the point farthest below the line between the ends", () => {
    expect(at([0, 10], [0.1, 4], [0.2, 1], [0.6, 0.5], [1, 0])).toBe(2);
    expect(at([0, 10], [0.1, 0.5], [0.2, 0.4], [0.6, 0.3], [1, 0])).toBe(1);
  });

  it("does not depend on units", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 99 }), { minLength: 3, maxLength: 9 }),
        fc.integer({ min: 1, max: 1000 }),
        (xs, scale) => {
          const points = xs
            .toSorted((a, b) => a - b)
            .map((x): [number, number] => [x, 1000 * Math.exp(-x / 17)]);
          const scaled = points.map(([x, y]): [number, number] => [x * scale + 5, y / scale - 3]);
          expect(at(...scaled)).toBe(at(...points));
        },
      ),
    );
  });

  it("is not on a straight, a bulging, a hardly bent or a rising line", () => {
    expect(at([0, 1], [0.5, 0.5], [1, 0])).toBeNull();
    expect(at([0, 1], [0.5, 0.9], [1, 0])).toBeNull();
    expect(at([0, 1], [0.5, 0.5 - leastKnee * 0.9], [1, 0])).toBeNull();
    expect(at([0, 1], [0.5, 0.5 - leastKnee * 1.1], [1, 0])).toBe(1);
    expect(at([0, 0], [0.5, 1], [1, 2])).toBeNull();
    expect(at()).toBeNull();
  });
});

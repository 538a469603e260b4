/** From scores to active sets. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { type Filling, Lab } from "./lab.ts";
import { type Subject, seed, size } from "./subject.ts";

export function selectOps(subject: Subject): void {
  const { property, agreeExactly } = subject;

  /** Scores on a coarse grid, so that there are ties, with zeros of both signs, infinities and NaN. */
  const scoreGrid = fc.constantFrom(-2, -1, -0.5, -0, 0, 0.25, 0.5, 1, 1e-45, -1e-45, Infinity, -Infinity);
  const score = fc.oneof(
    { weight: 6, arbitrary: scoreGrid },
    { weight: 3, arbitrary: fc.float({ noNaN: true }) },
    { weight: 1, arbitrary: fc.constant(Number.NaN) },
  );
  const scoreRows = fc
    .tuple(fc.constantFrom(1, 3, 17, 65, 193), fc.constantFrom(0, 1, 2, 5))
    .chain(([units, rows]) =>
      fc.tuple(
        fc.constant(units),
        fc.constant(rows),
        fc.array(score, { minLength: units * (rows + 1), maxLength: units * (rows + 1) }),
      ),
    );

  property<[[number, number, number[]], number]>(
    "selectTopK: ties to the lower unit, NaN last, ascending",
    [scoreRows, fc.double({ min: 0, max: 1, noNaN: true })],
    async ([units, rows, scores], share) => {
      const k = Math.round(share * units);
      await agreeExactly(1, async (lab) => {
        const set = lab.set(units, rows + 1, "random")!;
        lab.kernels.selectTopK(set, lab.floats([rows + 1, units], scores), k, rows);
        return lab.units(set, rows + 1);
      });
    },
    150,
  );

  property<[[number, number, number[]], number]>(
    "selectThreshold: strictly above, never NaN",
    [scoreRows, fc.oneof(scoreGrid, fc.double({ min: -3, max: 3, noNaN: true }), fc.constant(1 / 3))],
    async ([units, rows, scores], threshold) => {
      await agreeExactly(2, async (lab) => {
        const set = lab.set(units, rows + 1, "random")!;
        lab.kernels.selectThreshold(set, lab.floats([rows + 1, units], scores), threshold, rows);
        return lab.units(set, rows + 1);
      });
    },
  );

  it("selectThreshold compares with the threshold itself, not with its float32 neighbour", async () => {
    const kept = await agreeExactly(3, async (lab) => {
      const set = lab.set(3, 1, "empty")!;
      lab.kernels.selectThreshold(set, lab.floats([1, 3], [0.1, 0.3, -0.1]), 0.1, 1);
      return lab.units(set, 1);
    });
    expect(kept).toEqual([[0, 1]]); // 0.1 as float32 is above 0.1
  });

  property<[[number, number, number[]], boolean, boolean, number]>(
    "refine keeps the units whose value is positive",
    [scoreRows, fc.boolean(), fc.boolean(), seed],
    async ([units, rows, scores], inPlace, shared, s) => {
      await agreeExactly(s, async (lab) => {
        const set = lab.set(units, rows + 1, "random", shared)!;
        const out = inPlace ? set : lab.set(units, rows + 1, "random", shared)!;
        lab.kernels.refine(out, set, lab.floats([rows + 1, units], scores), rows);
        return lab.units(out, shared ? 1 : rows + 1);
      });
    },
  );

  property<[number, number, Filling, number]>(
    "unite lists what any row lists",
    [size, fc.constantFrom(1, 2, 5, 33), fc.constantFrom<Filling>("empty", "full", "random"), seed],
    async (units, rows, fill, s) => {
      await agreeExactly(s, async (lab) => {
        const out = lab.set(units, 1, "random", true)!;
        lab.kernels.unite(out, lab.set(units, rows, fill)!, rows);
        return lab.units(out, 1);
      });
    },
  );

  property<[[number, number, number[]]]>(
    "argmax: the first of equals, never NaN",
    [scoreRows],
    async ([units, rows, scores]) => {
      const hasNumber = (r: number) => scores.slice(r * units, (r + 1) * units).some((v) => v > -Infinity);
      await agreeExactly(4, async (lab) => {
        const out = lab.integers([rows + 2], new Array(rows + 2).fill(-1));
        lab.kernels.argmax(out, lab.floats([rows + 1, units], scores), rows);
        return (await lab.read(out)).map((id, r) => (r < rows && !hasNumber(r) ? 0 : id));
      });
    },
  );

  it("argmax of nothing but NaN is 0", async () => {
    const lab = new Lab(subject.kernels, 1);
    const out = lab.integers([1], [5]);
    subject.kernels.argmax(out, lab.floats([1, 19], new Array(19).fill(Number.NaN)), 1);
    expect(await lab.read(out)).toEqual([0]);
  });
}

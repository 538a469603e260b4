/** Active sets' bookkeeping, and the sums over it. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { ActiveSets, setKinds } from "../../src/sparsity/active-set.ts";
import { densityPolicy, uniformPolicy } from "../../src/sparsity/policy.ts";
import { Tally } from "../../src/sparsity/tally.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const kernels = openReference();
afterAll(() => kernels.dispose());
const [layers, heads, neurons, maxRows] = [3, 4, 10, 5];
const slots = setKinds.length * layers;

describe("active sets", () => {
  it("have sizes of their own, in one tensor", () => {
    const sets = new ActiveSets(kernels, layers, heads, neurons, maxRows);
    const all = setKinds.flatMap((kind) => Array.from({ length: layers }, (_, l) => sets.at(kind, l)));
    expect(new Set(all.map(({ slot }) => slot)).size).toBe(slots);
    expect(all.every(({ counts }) => counts === sets.counts)).toBe(true);
    expect(sets.counts.shape).toEqual([slots + 1, maxRows]); // the last is of screened words
    for (const set of all) expect(set.indices.shape).toEqual([maxRows, set.units]);
    sets.free(kernels);
  });

  it("share the neurons' indices between layers, but neither with the active ones nor the heads'", () => {
    const sets = new ActiveSets(kernels, layers, heads, neurons, maxRows);
    expect(sets.at("neurons", 0).indices).toBe(sets.at("neurons", 2).indices);
    expect(sets.at("neurons", 0).indices).not.toBe(sets.at("active", 0).indices);
    expect(sets.at("heads", 0).indices).not.toBe(sets.at("heads", 1).indices);
    sets.free(kernels);
  });

  it("remember which blocks computed only a set", () => {
    const sets = new ActiveSets(kernels, layers, heads, neurons, maxRows);
    sets.note("active", 1, sets.at("active", 1));
    expect(setKinds.filter((kind) => sets.noted(kind, 1) !== null)).toEqual(["active"]);
    expect(sets.noted("active", 0)).toBe(null);
    sets.note("active", 1, null);
    expect(sets.noted("active", 1)).toBe(null);
    sets.free(kernels);
  });

  it("give all memory back", () => {
    const memory = watchMemory(kernels);
    new ActiveSets(kernels, layers, heads, neurons, maxRows).free(kernels);
    expect(memory.live.size).toBe(0);
    expect(memory.bytes).toBeGreaterThan(0);
    memory.end();
  });
});

describe("a tally", () => {
  const forwards = fc.array(
    fc.record({
      rows: fc.integer({ min: 1, max: maxRows }),
      used: fc.array(fc.boolean(), { minLength: slots, maxLength: slots }),
      counts: fc.array(fc.integer({ min: 0, max: heads }), {
        minLength: slots * maxRows,
        maxLength: slots * maxRows,
      }),
    }),
    { maxLength: 6 },
  );

  it("adds up what forwards computed", async () => {
    await fc.assert(
      fc.asyncProperty(forwards, async (list) => {
        const sets = new ActiveSets(kernels, layers, heads, neurons, maxRows);
        const tally = new Tally(sets);
        const expected = new Map<string, number>();
        let rows = 0;
        for (const forward of list) {
          kernels.write(sets.counts, Int32Array.from(forward.counts));
          for (const [k, kind] of setKinds.entries())
            for (let l = 0; l < layers; l++) {
              const slot = k * layers + l;
              sets.note(kind, l, forward.used[slot] ? sets.at(kind, l) : null);
              for (let r = 0; r < forward.rows; r++) {
                // A shared set counts in full for every row: each computes all of it.
                const column = sets.at(kind, l).shared ? 0 : r;
                const units = forward.used[slot]
                  ? forward.counts[slot * maxRows + column]!
                  : sets.units[kind];
                expected.set(`${kind} ${l}`, (expected.get(`${kind} ${l}`) ?? 0) + units);
              }
            }
          await tally.add(kernels, forward.rows);
          rows += forward.rows;
        }
        expect(tally.rows).toBe(rows);
        for (const kind of setKinds) {
          let sum = 0;
          for (let l = 0; l < layers; l++) {
            const total = expected.get(`${kind} ${l}`) ?? 0;
            expect(tally.total(kind, l)).toBe(total);
            expect(tally.mean(kind, l)).toBe(rows === 0 ? 0 : total / rows);
            sum += total;
          }
          const units = sets.units[kind];
          expect(tally.density(kind)).toBeCloseTo(rows === 0 ? 1 : sum / (rows * layers * units), 12);
        }
        sets.free(kernels);
      }),
      { numRuns: 100, seed: 1 },
    );
  });
});

describe("a density", () => {
  it("becomes the nearest number of units, at least one", () => {
    const density = fc.double({ min: 0, max: 1, minExcluded: true, maxExcluded: true, noNaN: true });
    const property = fc.property(density, fc.integer({ min: 1, max: 5000 }), (share, units) => {
      const policy = densityPolicy(share, units);
      if (policy.kind !== "topK") throw new Error(policy.kind);
      expect(Number.isInteger(policy.k)).toBe(true);
      expect(policy.k).toBeGreaterThanOrEqual(1);
      expect(policy.k).toBeLessThanOrEqual(units);
      if (policy.k > 1) expect(Math.abs(policy.k - share * units)).toBeLessThanOrEqual(0.5);
    });
    fc.assert(property, { seed: 1 });
    expect(densityPolicy(1, 7)).toEqual({ kind: "dense" });
  });

  it("is the same in every layer of a uniform policy", () => {
    const policy = uniformPolicy(2, { kind: "dense" }, { kind: "topK", k: 3 });
    expect(policy.heads).toEqual([{ kind: "dense" }, { kind: "dense" }]);
    expect(policy.neurons).toEqual([
      { kind: "topK", k: 3 },
      { kind: "topK", k: 3 },
    ]);
  });
});

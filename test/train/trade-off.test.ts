/** The path through the trade-off, against an exhaustive search, and what is made of measured stops. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  additiveLoss,
  type Choice,
  claimQualities,
  lastWithin,
  spacedStops,
  tradeOffPath,
} from "../../src/train/trade-off.ts";

/** Groups of up to 5 choices, the first of them dense; whole numbers, so that sums are exact. */
const groups: fc.Arbitrary<Choice[][]> = fc.array(
  fc
    .array(fc.record({ bytes: fc.nat(99), loss: fc.integer({ min: 1, max: 50 }) }), { maxLength: 4 })
    .map((choices) => [{ bytes: 100, loss: 0 }, ...choices]),
  { minLength: 1, maxLength: 4 },
);
const bytesOf = (all: readonly Choice[][], stop: readonly number[]) =>
  stop.reduce((sum, choice, group) => sum + all[group]![choice]!.bytes, 0);

function* everyStop(all: readonly Choice[][], from = 0): Generator<number[]> {
  if (from === all.length) yield [];
  else
    for (const rest of everyStop(all, from + 1))
      for (let choice = 0; choice < all[from]!.length; choice++) yield [choice, ...rest];
}

describe("the path", () => {
  it("finds the known optimum of a small problem", () => {
    const layers: Choice[][] = [
      [
        { bytes: 100, loss: 0 },
        { bytes: 60, loss: 4 }, // above the line from dense to the next: never worth it
        { bytes: 40, loss: 5 },
        { bytes: 30, loss: 15 },
      ],
      [
        { bytes: 100, loss: 0 },
        { bytes: 20, loss: 2 },
      ],
    ];
    expect(tradeOffPath(layers)).toEqual([
      [0, 0],
      [0, 1],
      [2, 1],
      [3, 1],
    ]);
  });

  it("reads, at each stop, the fewest bytes that its loss can buy", () => {
    fc.assert(
      fc.property(groups, (all) => {
        for (const stop of tradeOffPath(all)) {
          const [loss, bytes] = [additiveLoss(all, stop), bytesOf(all, stop)];
          for (const other of everyStop(all))
            if (additiveLoss(all, other) <= loss) expect(bytesOf(all, other)).toBeGreaterThanOrEqual(bytes);
        }
      }),
      { numRuns: 300, seed: 5 },
    );
  });

  it("starts dense, saves bytes with every step, at ever worse rates, to the fewest bytes", () => {
    fc.assert(
      fc.property(groups, (all) => {
        const path = tradeOffPath(all);
        expect(path[0]).toEqual(all.map(() => 0));
        let lastRate = Number.POSITIVE_INFINITY;
        for (const [i, stop] of path.entries()) {
          if (i === 0) continue;
          const saved = bytesOf(all, path[i - 1]!) - bytesOf(all, stop);
          const rate = saved / (additiveLoss(all, stop) - additiveLoss(all, path[i - 1]!));
          expect(saved).toBeGreaterThan(0);
          expect(rate).toBeLessThanOrEqual(lastRate);
          lastRate = rate;
        }
        const fewest = all.map((choices) => Math.min(...choices.map(({ bytes }) => bytes)));
        expect(bytesOf(all, path.at(-1)!)).toBe(fewest.reduce((a, b) => a + b));
      }),
      { numRuns: 300, seed: 6 },
    );
  });

  it("stays where there is nothing to choose", () => {
    expect(tradeOffPath([[{ bytes: 5, loss: 0 }]])).toEqual([[0]]);
    expect(tradeOffPath([])).toEqual([[]]);
  });
});

describe("stops to measure", () => {
  it("are spaced by loss, end with the last, and leave dense out", () => {
    expect(spacedStops([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 1, 2)).toEqual([1, 2, 4, 8, 9]);
    expect(spacedStops([0, 0.001], 1, 2)).toEqual([1]);
    expect(spacedStops([0, 1000], 1, 2)).toEqual([1]);
    expect(spacedStops([0], 1, 2)).toEqual([]);
    expect(spacedStops([0, Number.NaN], 1, 2)).toEqual([]);
  });

  it("halve the way to the budget", async () => {
    const asked: number[] = [];
    const found = await lastWithin(0, 100, 36.5, async (index) => {
      asked.push(index);
      return index;
    });
    expect(found).toBe(36);
    expect(asked.length).toBeLessThanOrEqual(7);
    expect(await lastWithin(3, 4, 0, () => Promise.reject(new Error("nothing to ask")))).toBe(3);
  });
});

describe("a claim of quality", () => {
  const stop = (bytesPerToken: number, calibrated: number, reported: number, kl = 0) => ({
    bytesPerToken,
    calibrated: { perplexityIncrease: calibrated, kl },
    reported: { perplexityIncrease: reported, kl: 0 },
  });

  it("is no better than either half, a denser stop or dense", () => {
    const kept = claimQualities([
      stop(90, -0.01, -0.02), // likelier than dense by luck
      stop(80, 0.01, 0.03),
      stop(70, 0.04, 0.02),
      stop(60, 0.01, 0.01), // luck again
      stop(65, 0.05, 0.05), // saves nothing
      stop(50, 0.09, 0.05),
    ]);
    expect(kept.map(({ bytesPerToken, quality }) => [bytesPerToken, quality])).toEqual([
      [90, 0],
      [80, 0.03],
      [60, 0.04],
      [50, 0.09],
    ]);
  });

  it("counts divergence where perplexity is lucky", () => {
    const [kept] = claimQualities([stop(90, -0.02, -0.01, 0.05)]);
    expect(kept!.quality).toBeCloseTo(Math.exp(0.05) - 1, 12);
  });

  it("grows while bytes fall, whatever was measured", () => {
    const increase = fc.double({ min: -0.1, max: 0.5, noNaN: true });
    const stops = fc.array(fc.tuple(fc.nat(1000), increase, increase).map((values) => stop(...values)));
    fc.assert(
      fc.property(stops, (measured) => {
        const kept = claimQualities(measured);
        for (const [i, point] of kept.entries()) {
          expect(point.quality).toBeGreaterThanOrEqual(point.calibrated.perplexityIncrease);
          expect(point.quality).toBeGreaterThanOrEqual(point.reported.perplexityIncrease);
          if (i === 0) continue;
          expect(point.quality).toBeGreaterThan(kept[i - 1]!.quality);
          expect(point.bytesPerToken).toBeLessThan(kept[i - 1]!.bytesPerToken);
        }
      }),
      { seed: 7 },
    );
  });
});

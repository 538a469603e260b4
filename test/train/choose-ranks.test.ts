/** The choice among predictors of several ranks, against all choices there are. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { UnitKind } from "../../src/sparsity/selector.ts";
import { chooseRanks, rankVariants } from "../../src/train/choose-ranks.ts";
import { type PreparedLayer, uncut } from "../../src/train/prepared-layer.ts";
import type { MeasuredLadder, MeasuredRung } from "../../src/train/search.ts";
import { additiveLoss, tradeOffPath } from "../../src/train/trade-off.ts";

const rung = (bytes: number, loss: number): MeasuredRung => ({
  policy: { kind: "dense" },
  density: 1,
  recall: 1,
  precision: 1,
  bytes,
  loss,
});
const ladder = (unit: UnitKind, layer: number, ...sparser: [number, number][]): MeasuredLadder => ({
  unit,
  layer,
  rungs: [rung(100, 0), ...sparser.map(([bytes, loss]) => rung(bytes, loss))],
});

describe("ranks", () => {
  // In the first layer the second predictor is worth its bytes where little may be lost; in the other never.
  const variants = [
    [ladder("neurons", 0, [50, 4], [10, 9]), ladder("neurons", 1, [40, 3]), ladder("heads", 0, [95, 1])],
    [ladder("neurons", 0, [45, 1], [40, 30]), ladder("neurons", 1, [80, 3]), ladder("heads", 0)],
  ];
  const names = [
    { neurons: ["first 0", "first 1"], heads: ["first"] },
    { neurons: ["second 0", "second 1"], heads: ["second"] },
  ];

  it("depend on what may be lost", () => {
    const tight = chooseRanks(variants, 5);
    expect(tight.pick(names)).toEqual({ neurons: ["second 0", "first 1"], heads: ["first"] });
    expect(tight.ladders).toEqual([variants[1]![0], variants[0]![1], variants[0]![2]]);
    const loose = chooseRanks(variants, 20);
    expect(loose.pick(names)).toEqual({ neurons: ["first 0", "first 1"], heads: ["first"] });
  });

  it("are the first ones where the layer stays dense, or nothing else is there", () => {
    expect(chooseRanks(variants, 0).pick(names)).toEqual(names[0]);
    expect(chooseRanks(variants.slice(0, 1), 5).ladders).toEqual(variants[0]);
  });

  it("never read more, for what may be lost on the path, than any one rank for all", () => {
    const sparser = fc.array(fc.tuple(fc.nat(99), fc.integer({ min: 1, max: 50 })), { maxLength: 4 });
    const layers = fc.array(fc.tuple(sparser, sparser), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(layers, fc.nat(150), (drawn, loss) => {
        const all = [0, 1].map((v) => drawn.map((both, layer) => ladder("neurons", layer, ...both[v]!)));
        // Only at stops of the joint path is the cheapest choice known; the budget is moved to one.
        const joint = drawn.map((_, i) => all.flatMap((ladders) => ladders[i]!.rungs));
        const stop = tradeOffPath(joint).findLast((one) => additiveLoss(joint, one) <= loss)!;
        const within = additiveLoss(joint, stop);
        const fewest = (ladders: readonly MeasuredLadder[]) => {
          const groups = ladders.map(({ rungs }) => rungs);
          const stops = tradeOffPath(groups).filter((one) => additiveLoss(groups, one) <= within);
          return Math.min(
            ...stops.map((one) => one.reduce((sum, choice, i) => sum + groups[i]![choice]!.bytes, 0)),
          );
        };
        const chosen = fewest(chooseRanks(all, within).ladders);
        for (const ladders of all) expect(chosen).toBeLessThanOrEqual(fewest(ladders));
      }),
      { numRuns: 300, seed: 9 },
    );
  });
});

describe("variants", () => {
  const layer = (rank: number, ...others: number[]): PreparedLayer => {
    const parameters = (r: number) => ({
      rank: r,
      down: null,
      up: new Float32Array(),
      bias: new Float32Array(),
    });
    const alternatives = others.map((r) => ({ ...uncut, parameters: parameters(r) }));
    const score = new Float32Array();
    return { units: 1, source: "mlp-input", parameters: parameters(rank), ...uncut, alternatives, score };
  };

  it("are the first predictors, the second ones, and none where a layer has no more", () => {
    const prepared = { heads: [layer(0), layer(0)], neurons: [layer(8, 16), layer(32)] };
    const ranks = rankVariants(prepared).map((variant) =>
      [...variant.heads, ...variant.neurons].map(({ parameters }) => parameters?.rank ?? null),
    );
    expect(ranks).toEqual([
      [0, 0, 8, 32],
      [null, null, 16, null],
    ]);
  });
});

/** What the report says of numbers made up for it, above all of those that disappoint. */
import { describe, expect, it } from "vitest";
import { curvesOf, type Run } from "../../src/study/quality.ts";
import type { CurveKind, CurveUnit, Numbers, Scored, Speed } from "../../src/study/schema.ts";
import { qualitySection } from "../../src/study/sections/quality.ts";
import { speedSection } from "../../src/study/sections/speed.ts";
import { change, ordinary, percent } from "../../src/study/words.ts";

const full = { density: 1, recall: 1, precision: 1 };

function point(unit: CurveUnit, selector: CurveKind, asked: number, perplexity: number) {
  const run: Run = { unit, selector, asked, densities: {} };
  const [mlp, heads] = [unit !== "heads", unit !== "mlp"].map((is) => ({ ...full, density: is ? asked : 1 }));
  const result = { perplexity, densePerplexity: 10, kl: 0.1, top1Agreement: 0.9, mlp, heads } as Scored;
  return { run, result };
}

const densities = [0.1, 0.2, 0.3, 0.5, 0.7];
const line = (unit: CurveUnit, selector: CurveKind, perplexities: number[]) =>
  densities.map((density, i) => point(unit, selector, density, perplexities[i]!));

const said = (results: ReturnType<typeof line>): string => {
  const quality = {
    documents: 1,
    scoredIds: 9,
    densePerplexity: 10,
    curves: curvesOf(results),
    kneeRule: "",
  };
  return qualitySection({ quality, bundle: {}, model: { heads: 6 } } as unknown as Numbers)
    .sentences.map(ordinary)
    .join("\n");
};

describe("quality", () => {
  const oracle = line("mlp", "oracle", [14, 10.2, 10.05, 10.01, 10]);
  const fixed = line("mlp", "static", [90, 50, 30, 20, 12]);

  it("names the knee, and where the loss is nearly none", () => {
    const [curve] = curvesOf(oracle);
    expect(curve).toMatchObject({ knee: 0.2, nearlyDense: 0.3 });
    expect(said(oracle)).toContain("knees at 20 % by oracle (+2.0 %)");
    expect(said(oracle)).toContain("Within 1 % of dense: oracle from 30 % on.");
  });

  it("says where predicted is worse than static, and static no better than random", () => {
    const predicted = line("mlp", "predicted", [95, 40, 31, 15, 11]);
    const random = line("mlp", "random", [100, 50, 40, 19, 13]);
    const text = said([...oracle, ...predicted, ...fixed, ...random]);
    expect(text).toContain("MLP: predicted is no better than static at 10 % and 30 %.");
    expect(text).toContain("MLP: static is no better than random at 20 % and 50 %.");
    expect(text).not.toContain("predicted is no better than random");
  });

  it("does not complain where the order is as it should be", () => {
    const predicted = line("mlp", "predicted", [20, 11.2, 11, 10.05, 10]);
    const random = line("mlp", "random", [900, 500, 300, 200, 120]);
    const text = said([...oracle, ...predicted, ...fixed, ...random]);
    expect(text).not.toContain("no better");
    expect(text).toContain("choosing for each token costs +12 %, one choice for all tokens +400 %");
  });

  it("says when not even the oracle is nearly dense", () => {
    const text = said([...oracle, ...line("heads", "oracle", [300, 200, 100, 50, 15])]);
    expect(text).toContain("Heads: even the oracle costs +50 % at 70 %");
    expect(text).toContain("Nothing measured is within 1 % of dense.");
  });

  it("counts a perplexity below dense as nearly dense", () => {
    const [curve] = curvesOf(line("mlp", "oracle", [14, 9.99, 10, 10, 10]));
    expect(curve!.nearlyDense).toBe(0.2);
  });
});

describe("speed", () => {
  const phases = { predictor: 0, attention: 3e-4, mlp: 4e-4, output: 1e-4, rest: 1e-4 };
  const spread = (median: number) => ({ median, p25: median * 0.98, p75: median * 1.02 });
  const dense = { tokensPerSecond: spread(1000), phases };
  const sparse = { tokensPerSecond: spread(900), phases: { ...phases, predictor: 2e-4, mlp: 3e-4 } };
  const text = (speedup: Speed["speedup"], loadBefore = 1) =>
    speedSection({
      speed: { tokens: 1, rounds: 3, profiledRounds: 3, prompt: "", loadBefore, dense, sparse, speedup },
      machine: { threads: 2, cores: 2 },
    } as unknown as Numbers)
      .sentences.map(ordinary)
      .join("\n");

  it("says faster, slower, or that nothing is shown", () => {
    expect(text({ median: 1.3, p25: 1.2, p75: 1.4 })).toContain(": faster.");
    expect(text({ median: 0.9, p25: 0.85, p75: 0.95 })).toContain("slower: here sparsity costs time");
    expect(text({ median: 1.05, p25: 0.95, p75: 1.2 })).toContain("no gain and no loss is shown");
  });

  it("says when the machine was busy", () => {
    const speedup = { median: 1.3, p25: 1.2, p75: 1.4 };
    expect(text(speedup, 7.5)).toContain("busy with other work (load average 7.5 on 2 cores)");
    expect(text(speedup, 2)).not.toContain("busy");
  });

  it("weighs what the predictors take against what they save", () => {
    expect(text({ median: 0.9, p25: 0.85, p75: 0.95 })).toContain(
      "predictors take 200 µs (200 % of the saving)",
    );
  });
});

it("numbers have the digits that say something", () => {
  const shown = [0, 0.0019, 0.038, 0.0996, 0.27, 0.9996, 15.63].map((value) => ordinary(percent(value)));
  expect(shown).toEqual(["0 %", "0.19 %", "3.8 %", "10 %", "27 %", "100 %", "1,560 %"]);
  expect([0.0019, -0.0019, 0, 1e-9].map((v) => ordinary(change(v)))).toEqual([
    "+0.19 %",
    "−0.19 %",
    "±0 %",
    "±0 %",
  ]);
});

import { describe, expect, it } from "vitest";
import { bench, interleave, pairedRatio, spread } from "../../src/eval/bench.ts";
import { load } from "../../src/load.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { makeWorkplace } from "../cli/tools.ts";

describe("spread", () => {
  it("interpolates median and quartiles", () => {
    expect(spread([4, 1, 3, 2])).toEqual({ median: 2.5, p25: 1.75, p75: 3.25 });
    expect(spread([5])).toEqual({ median: 5, p25: 5, p75: 5 });
  });

  it("of a ratio is taken pair by pair", () => {
    expect(pairedRatio([2, 30], [1, 10]).median).toBe(2.5);
  });
});

describe("bench", () => {
  it("lets both decode the same number of tokens, in alternating order, and profiles apart", async () => {
    const place = await makeWorkplace();
    const engine = await load(place.model, { backend: "reference" });
    try {
      const selector = await engine.selector("oracle");
      const order: string[] = [];
      const seen = [denseSelector, selector].map((inner) => ({
        ...inner,
        kind: inner.kind,
        bytesPerToken: inner.bytesPerToken,
        dispose() {},
        heads: (block: Parameters<typeof inner.heads>[0]) => inner.heads(block),
        neurons(block: Parameters<typeof inner.neurons>[0]) {
          if (block.layer === 0 && order.at(-1) !== inner.kind) order.push(inner.kind);
          return inner.neurons(block);
        },
      }));
      const options = { prompt: "ab", tokens: 3, rounds: 3 };
      const laps = await interleave(
        seen.map((one) => ({ engine, selector: one })),
        options,
      );
      // Four rounds with the one that warms up; neighbours of the same kind show as one.
      expect(order).toEqual(["dense", "oracle", "dense", "oracle", "dense"]);
      for (const { tokensPerSecond, result } of laps) {
        expect(tokensPerSecond).toHaveLength(3);
        expect(result.ids).toHaveLength(3);
      }
      const rounds: number[] = [];
      const result = await bench(engine, selector, { ...options, onRound: (done) => rounds.push(done) });
      expect(rounds).toEqual([1, 2, 3, 4]);
      expect(result.sparse.mlpDensity).toBeLessThan(1);
      expect(result.sparse.bytesPerToken).toBeLessThan(result.dense.bytesPerToken);
      expect(result.dense.phases).toMatchObject({ predictor: 0, mlp: expect.any(Number) });
      const { median } = result.dense.tokensPerSecond;
      expect(result.dense.gigabytesPerSecond).toBeCloseTo((result.dense.bytesPerToken * median) / 1e9, 12);
    } finally {
      engine.dispose();
      place.remove();
    }
  });
});

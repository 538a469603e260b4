import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createSampler, type SamplingOptions } from "../../src/sampling/sampling.ts";
import { expectSame } from "../helpers/same.ts";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

/** Samples once, with nothing in the history. */
const sample = (
  options: SamplingOptions,
  logits: readonly number[],
  history: readonly number[] = [],
): number => createSampler(options, logits.length).next(Float32Array.from(logits), history);

/** Exact probabilities, by the definitions, with sorting of everything. `slack` widens top-p and min-p a little. */
function oracle(
  options: SamplingOptions,
  logits: readonly number[],
  history: readonly number[],
  slack = 0,
): Map<number, number> {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = options;
  const seen = new Set(history);
  const penalized = Float32Array.from(logits, (raw, id) => {
    const logit = Math.fround(raw);
    if (!seen.has(id)) return logit;
    return logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
  });
  const usable = [...penalized.keys()].filter((id) => penalized[id]! > -infinity);
  const sorted = usable.sort((a, b) => penalized[b]! - penalized[a]! || a - b);
  let kept = topK > 0 ? sorted.slice(0, topK) : sorted;
  const largest = penalized[kept[0]!]!;
  const weight = (id: number): number =>
    penalized[id] === largest ? 1 : Math.exp((penalized[id]! - largest) / temperature);
  const total = kept.reduce((sum, id) => sum + weight(id), 0);
  let before = 0;
  kept = kept.filter((id, i) => {
    const keep = i === 0 || topP === 1 || before < (topP + slack) * total;
    before += weight(id);
    return keep;
  });
  kept = kept.filter((id) => weight(id) >= minP - slack);
  const rest = kept.reduce((sum, id) => sum + weight(id), 0);
  return new Map(kept.map((id) => [id, weight(id) / rest]));
}

const logit = fc.oneof(
  { weight: 8, arbitrary: fc.float({ min: -8, max: 8, noNaN: true }) },
  { weight: 4, arbitrary: fc.constantFrom(0, 1, -1) }, // ties
  { weight: 1, arbitrary: fc.constantFrom(nan, infinity, -infinity, 3e38, -3e38) },
);
const logitRow = fc.array(logit, { minLength: 1, maxLength: 60 });
const anyOptions: fc.Arbitrary<SamplingOptions> = fc.record({
  temperature: fc.double({ min: 0.05, max: 3, noNaN: true }),
  topK: fc.option(fc.nat(70), { nil: undefined }),
  topP: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
  minP: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
  repetitionPenalty: fc.option(fc.double({ min: 0.5, max: 2, noNaN: true }), { nil: undefined }),
  seed: fc.nat(),
});
const anyHistory = fc.array(fc.nat(65), { maxLength: 20 });

describe("sampling", () => {
  it("chooses only what the definitions allow", () => {
    fc.assert(
      fc.property(anyOptions, logitRow, anyHistory, (options, logits, history) => {
        const allowed = oracle(options, logits, history, 1e-9);
        const sampler = createSampler(options, logits.length);
        const row = Float32Array.from(logits);
        for (let i = 0; i < 5; i++) {
          const id = sampler.next(row, history);
          if (allowed.size === 0) expect(id).toBe(0);
          else expect([...allowed.keys()]).toContain(id);
        }
        expectSame(row, Float32Array.from(logits));
      }),
      { numRuns: 3000 },
    );
  });

  const skewed = Array.from({ length: 24 }, (_, id) => 3 * Math.sin(id * 1.7) + (id % 3 === 0 ? 1 : 0));
  const draws = 20_000;
  it.each<[string, SamplingOptions]>([
    ["plain", { temperature: 1 }],
    ["hot", { temperature: 2.5 }],
    ["cold", { temperature: 0.4 }],
    ["top-k", { topK: 5 }],
    ["top-p", { topP: 0.7 }],
    ["min-p", { minP: 0.15 }],
    ["top-k larger than the vocabulary", { topK: 1000 }],
    ["top-k and top-p", { topK: 8, topP: 0.6, temperature: 1.5 }],
    ["top-k and min-p", { topK: 12, minP: 0.3, temperature: 1.5 }],
    ["all", { topK: 10, topP: 0.9, minP: 0.2, temperature: 1.3, repetitionPenalty: 1.4 }],
  ])("has the exact frequencies: %s", (_, options) => {
    const history = [0, 3, 3, 9, 1e9];
    const expected = oracle(options, skewed, history);
    const sampler = createSampler({ ...options, seed: 42 }, skewed.length);
    const row = Float32Array.from(skewed);
    const counts = new Map<number, number>();
    for (let i = 0; i < draws; i++) {
      const id = sampler.next(row, history);
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    let chiSquare = 0;
    for (const [id, probability] of expected) {
      chiSquare += ((counts.get(id) ?? 0) - draws * probability) ** 2 / (draws * probability);
      counts.delete(id);
    }
    expect(counts.size).toBe(0); // nothing but what is allowed
    const freedom = expected.size - 1;
    expect(chiSquare).toBeLessThan(freedom + 5 * Math.sqrt(2 * freedom) + 5);
  });

  it("gives the same sequence for the same seed", () => {
    const sequence = (seed: number): number[] => {
      const sampler = createSampler({ temperature: 1, seed }, skewed.length);
      return Array.from({ length: 20 }, () => sampler.next(Float32Array.from(skewed), []));
    };
    expect(sequence(7)).toEqual(sequence(7));
    expect(sequence(7)).not.toEqual(sequence(8));
    const sampler = createSampler({ temperature: 1 }, skewed.length);
    const { seed } = sampler.sampling as { seed: number };
    const unseeded = Array.from({ length: 20 }, () => sampler.next(Float32Array.from(skewed), []));
    expect(unseeded).toEqual(sequence(seed));
  });

  it("with one token left is greedy", () => {
    fc.assert(
      fc.property(logitRow, anyHistory, (logits, history) => {
        const greedy = sample({ repetitionPenalty: 1.3 }, logits, history);
        for (const options of [
          { topK: 1 },
          { topP: 0 },
          { topP: 1e-300 },
          { temperature: 1e-300, topK: 1 },
        ]) {
          expect(sample({ ...options, repetitionPenalty: 1.3 }, logits, history)).toBe(greedy);
        }
      }),
    );
  });

  it("prefers the lower id of equals", () => {
    expect(sample({}, [1, 5, 5, 5])).toBe(1);
    for (let seed = 0; seed < 50; seed++) {
      expect([1, 2]).toContain(sample({ topK: 2, seed }, [1, 5, 5, 5]));
      expect([1, 2]).toContain(sample({ topP: 0.6, seed }, [-90, 5, 5, 5]));
    }
  });

  it("keeps with the most probable all as probable at min-p 1", () => {
    const seen = new Set(Array.from({ length: 100 }, (_, seed) => sample({ minP: 1, seed }, [1, 5, 5, 4.9])));
    expect([...seen].sort()).toEqual([1, 2]);
  });
});

describe("repetition penalty", () => {
  it("divides what is positive, multiplies what is negative, once for each id", () => {
    expect(sample({ repetitionPenalty: 2 }, [3, 2], [0])).toBe(1);
    expect(sample({ repetitionPenalty: 2 }, [3, 1], [0])).toBe(0);
    expect(sample({ repetitionPenalty: 2 }, [3, 1], [0, 0, 0])).toBe(0);
    expect(sample({ repetitionPenalty: 2 }, [-1, -1.5], [0])).toBe(1);
    expect(sample({ repetitionPenalty: 0.5 }, [2, 3], [0])).toBe(0);
  });

  it("ignores ids outside the vocabulary, and takes typed arrays", () => {
    expect(sample({ repetitionPenalty: 2 }, [3, 2], [-1, 2, 1e9, nan, 0.5])).toBe(0);
    const sampler = createSampler({ repetitionPenalty: 2 }, 2);
    expect(sampler.next(Float32Array.of(3, 2), Int32Array.of(0))).toBe(1);
    expect(sampler.next(Float32Array.of(3, 2), [])).toBe(0);
  });
});

describe("F4: logits that are no numbers", () => {
  const kinds: readonly SamplingOptions[] = [
    {},
    { temperature: 1 },
    { topK: 3 },
    { topP: 0.5 },
    { minP: 0.5 },
    { topK: 3, topP: 0.9, minP: 0.1, repetitionPenalty: 1.5 },
  ];
  it.each(kinds)("%o", (options) => {
    for (let seed = 0; seed < 20; seed++) {
      const choose = (logits: readonly number[]): number => sample({ ...options, seed }, logits, [0, 1]);
      expect(choose([nan, 1, nan])).toBe(1);
      expect(choose([nan, -infinity, -3])).toBe(2);
      expect(choose([1, infinity, 3e38])).toBe(1);
      expect([0, 2]).toContain(choose([infinity, nan, infinity]));
      expect(choose([-infinity, -infinity])).toBe(0);
      expect(choose([nan, -infinity])).toBe(0);
      expect(choose([nan, nan])).toBe(0);
      expect([1, 2]).toContain(choose([-3.4e38, 3.4e38, 3.4e38]));
    }
  });

  it("of several infinite ones each is equally likely", () => {
    const chosen = Array.from({ length: 200 }, (_, seed) =>
      sample({ temperature: 1, seed }, [infinity, 1, infinity]),
    );
    expect(chosen.filter((id) => id === 0).length).toBeGreaterThan(60);
    expect(chosen.filter((id) => id === 2).length).toBeGreaterThan(60);
  });
});

describe("createSampler", () => {
  it("says when it is no more than the argmax", () => {
    expect(createSampler({}, 4).isArgmax).toBe(true);
    expect(createSampler({ repetitionPenalty: 1.1 }, 4).isArgmax).toBe(false);
    expect(createSampler({ temperature: 1 }, 4).isArgmax).toBe(false);
  });

  it("refuses a row of another length", () => {
    expect(() => createSampler({}, 4).next(new Float32Array(5), [])).toThrow(RangeError);
  });

  it("is quick on a vocabulary of 50,000", () => {
    const logits = Float32Array.from({ length: 50_000 }, (_, id) => 4 * Math.sin(id * 12.9898));
    for (const options of [{ topK: 40 }, { topP: 0.95 }, { topK: 40, topP: 0.9, minP: 0.05 }]) {
      const sampler = createSampler({ ...options, seed: 1 }, logits.length);
      const started = performance.now();
      for (let i = 0; i < 20; i++) sampler.next(logits, []);
      expect((performance.now() - started) / 20).toBeLessThan(60); // a few milliseconds; machines under load take more
    }
  });
});

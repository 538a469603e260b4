import { describe, expect, it } from "vitest";
import { resolveSampling, type SamplingOptions } from "../../src/sampling/sampling.ts";
import { UsageError } from "../../src/util/errors.ts";

describe("resolveSampling", () => {
  it("is greedy by default and at temperature 0", () => {
    expect(resolveSampling({})).toEqual({ kind: "greedy", repetitionPenalty: 1 });
    expect(resolveSampling({ temperature: 0, topK: 5, seed: 1 })).toEqual({
      kind: "greedy",
      repetitionPenalty: 1,
    });
    expect(resolveSampling({ temperature: undefined, repetitionPenalty: 1.2 }).repetitionPenalty).toBe(1.2);
  });

  it("samples at temperature 1 if only limits are given", () => {
    for (const limit of [{ topK: 5 }, { topP: 0.5 }, { minP: 0.1 }]) {
      expect(resolveSampling({ ...limit, seed: 3 })).toEqual({
        kind: "sample",
        temperature: 1,
        seed: 3,
        repetitionPenalty: 1,
        ...limit,
      });
    }
  });

  it("leaves out limits that exclude nothing", () => {
    const resolved = resolveSampling({ temperature: 0.5, topK: 0, topP: 1, minP: 0, seed: 3 });
    expect(resolved).toEqual({ kind: "sample", temperature: 0.5, seed: 3, repetitionPenalty: 1 });
  });

  it("chooses a seed, and another the next time", () => {
    const seeds = Array.from(
      { length: 4 },
      () => (resolveSampling({ temperature: 1 }) as { seed: number }).seed,
    );
    for (const seed of seeds) expect(Number.isSafeInteger(seed) && seed >= 0).toBe(true);
    expect(new Set(seeds).size).toBeGreaterThan(1);
  });

  const everywhere = [-1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const wrong: readonly [keyof SamplingOptions, readonly number[]][] = [
    ["temperature", everywhere],
    ["topK", [...everywhere, 1.5]],
    ["topP", [...everywhere, 1.01]],
    ["minP", [...everywhere, 1.01]],
    ["repetitionPenalty", [...everywhere, 0]],
    ["seed", [...everywhere, 0.5, 2 ** 53]],
  ];
  it.each(wrong)("refuses a %s out of range, naming it and the value", (name, values) => {
    for (const value of values) {
      expect(() => resolveSampling({ [name]: value })).toThrow(UsageError);
      expect(() => resolveSampling({ [name]: value })).toThrow(`${name} is ${value}; it must be`);
    }
    const text = { [name]: "1" } as unknown as SamplingOptions;
    expect(() => resolveSampling(text)).toThrow(UsageError);
  });
});

/** What the conformance suite says all its cases with: the backend under test beside its judge, and draws of sizes. */
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Kernels } from "../../src/kernels/contract.ts";
import { type FloatDtype, type WeightDtype, weightDtypes } from "../../src/tensor/dtype.ts";
import { expectClose, type Filling, play, type Scenario } from "./lab.ts";

/** Sizes that no vector width divides, and those just beside one. */
export const size = fc.constantFrom(1, 3, 7, 17, 31, 63, 65, 193);
export const smallSize = fc.constantFrom(1, 3, 7, 17, 65);
export const rowCount = fc.constantFrom(0, 1, 2, 5, 33);
export const seed = fc.integer({ min: 1, max: 2 ** 30 });
export const filling = fc.constantFrom<Filling>("none", "empty", "full", "random");
const floats: readonly FloatDtype[] = ["f32", "f16", "bf16"];

/** By the weights' type; of those that are not here, factors are not rounded. */
export type FactorRounding = Readonly<Partial<Record<WeightDtype, number>>>;

export interface SubjectOptions {
  /** `open` takes a number of threads. */
  readonly isThreaded?: boolean;
  /** Weights may be int8 and int4, and caches f16. */
  readonly isQuantized?: boolean;
  /** What rounding the factor of a row does to a product in `accumulate`, relative to it. */
  readonly factorRounding?: FactorRounding;
}

/** Whether `rows` rows under one set for all, or none, are promised the bits that each row has alone. */
export const exactRows = (type: WeightDtype, rows: number): boolean => type === "f32" || rows < 16;
/** What sums of rounded operands may be off, relative to the largest output. */
const manyRowsTolerance: Readonly<Record<WeightDtype, number>> = {
  f32: 0,
  f16: 2 ** -11,
  bf16: 2 ** -7,
  int8: 2 ** -7,
  int4: 2 ** -7,
};

/** To be made within a `describe`: it opens both backends before the tests and disposes of them after. */
export class Subject {
  readonly open: (threads?: number) => Kernels;
  readonly tolerance: number;
  readonly isThreaded: boolean;
  readonly factorRounding: FactorRounding;
  /** Of the weights. */
  readonly types: readonly WeightDtype[];
  readonly dtype: fc.Arbitrary<WeightDtype>;
  /** Of keys and values. */
  readonly cacheDtype: fc.Arbitrary<FloatDtype>;
  #kernels: Kernels | null = null;
  #judge: Kernels | null = null;

  constructor(
    open: (threads?: number) => Kernels,
    judge: () => Kernels,
    tolerance: number,
    { isThreaded = true, isQuantized = true, factorRounding = {} }: SubjectOptions,
  ) {
    this.isThreaded = isThreaded;
    this.factorRounding = factorRounding;
    this.types = isQuantized ? weightDtypes : floats;
    this.dtype = fc.constantFrom(...this.types);
    this.cacheDtype = isQuantized ? fc.constantFrom("f32", "f16") : fc.constant("f32");
    this.open = open;
    this.tolerance = tolerance;
    beforeAll(() => {
      this.#kernels = open();
      this.#judge = judge();
    });
    afterAll(() => {
      this.#kernels?.dispose();
      this.#judge?.dispose();
    });
  }

  get kernels(): Kernels {
    return this.#kernels!;
  }

  /** What a scenario gives here is close to what the judge says. */
  readonly agree = async (
    seedValue: number,
    scenario: Scenario<number[]>,
    tolerance = this.tolerance,
  ): Promise<void> => {
    const actual = await play(this.kernels, seedValue, scenario);
    expectClose(actual, await play(this.#judge!, seedValue, scenario), tolerance);
  };

  /** The tolerance of a product or accumulation of `rows` rows that may run on a matrix unit. */
  readonly toleranceOf = (type: WeightDtype, rows: number): number =>
    exactRows(type, rows) ? this.tolerance : manyRowsTolerance[type];

  readonly agreeExactly = async <T>(seedValue: number, scenario: Scenario<T>): Promise<T> => {
    const actual = await play(this.kernels, seedValue, scenario);
    expect(actual).toEqual(await play(this.#judge!, seedValue, scenario));
    return actual;
  };

  /** One property per op: `body` is run for many draws from the arbitraries. */
  readonly property = <A extends [unknown, ...unknown[]]>(
    title: string,
    draws: { [K in keyof A]: fc.Arbitrary<A[K]> },
    body: (...values: A) => Promise<void>,
    numRuns = 60,
  ): void => {
    it(title, () => fc.assert(fc.asyncProperty(...draws, body), { numRuns, seed: 20 }));
  };
}

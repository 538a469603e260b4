/** How the next token is to be chosen, checked. */
import { randomInt } from "node:crypto";
import { z } from "zod";
import { UsageError } from "../util/errors.ts";

/** What a caller may say. What is left out is off. */
export interface SamplingOptions {
  /** 0: always the most probable token. Above 0: logits are divided by it. Default 1 with topK, topP or minP, else 0. */
  readonly temperature?: number | undefined;
  /** Only this many of the most probable tokens. 0: all; more than there are: all. */
  readonly topK?: number | undefined;
  /** Only the fewest most probable tokens whose probabilities sum to this. 1: all; 0: the most probable one. */
  readonly topP?: number | undefined;
  /** Only tokens at least this many times as probable as the most probable one. 0: all. */
  readonly minP?: number | undefined;
  /** Makes tokens less probable that are in the history already. 1: off; below 1: more probable. */
  readonly repetitionPenalty?: number | undefined;
  /** The same seed gives the same choices. Default: a different one each time. */
  readonly seed?: number | undefined;
}

/** A checked choice. A limit that would exclude nothing is absent. */
export type Sampling = { readonly repetitionPenalty: number } & (
  | { readonly kind: "greedy" }
  | {
      readonly kind: "sample";
      readonly temperature: number;
      readonly topK?: number;
      readonly topP?: number;
      readonly minP?: number;
      readonly seed: number;
    }
);

const optional = (schema: z.ZodType<number>, range: string) => ({ schema: schema.optional(), range });
const share = z.number().min(0).max(1);

const rules = {
  temperature: optional(z.number().min(0), "a number from 0 on"),
  topK: optional(z.int().min(0), "an integer from 0 on"),
  topP: optional(share, "a number from 0 to 1"),
  minP: optional(share, "a number from 0 to 1"),
  repetitionPenalty: optional(z.number().positive(), "a number above 0"),
  seed: optional(z.int().min(0), "an integer from 0 to 2^53 - 1"),
} satisfies Record<keyof SamplingOptions, unknown>;

/**
 * Checks the options and fills in what they leave out, the seed included.
 * @throws UsageError that names the option and its value
 */
export function resolveSampling(options: SamplingOptions): Sampling {
  for (const [name, { schema, range }] of Object.entries(rules)) {
    const value = options[name as keyof SamplingOptions];
    if (!schema.safeParse(value).success) throw new UsageError(`${name} is ${value}; it must be ${range}`);
  }
  const { topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = options;
  const isLimited = [options.topK, options.topP, options.minP].some((limit) => limit !== undefined);
  const temperature = options.temperature ?? (isLimited ? 1 : 0);
  if (temperature === 0) return { kind: "greedy", repetitionPenalty };
  return {
    kind: "sample",
    temperature,
    ...(topK > 0 && { topK }),
    ...(topP < 1 && { topP }),
    ...(minP > 0 && { minP }),
    seed: options.seed ?? randomInt(2 ** 32),
    repetitionPenalty,
  };
}

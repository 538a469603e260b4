/** What `prepare` can be told, with its defaults. */
import { z } from "zod";
import { headTargets } from "../sparsity/bundle.ts";
import { predictorKinds } from "../sparsity/predictor.ts";
import { sources } from "../sparsity/selector.ts";
import { UsageError } from "../util/errors.ts";

const optionsSchema = z.strictObject({
  texts: z.array(z.string()).min(1, "at least one text file is needed"),
  out: z.string().min(1),
  /** Keep the captured rows in this folder; by default they are removed after use. */
  captureFolder: z.string().optional(),
  /**
   * `per-layer`: one predictor for each layer and kind of unit (Deja Vu). `shadow`: one for all layers, for each kind of
   * unit, which reads the first block (ShadowLLM).
   */
  predictor: z.enum(predictorKinds).default("per-layer"),
  /** What predictors of heads learn; default: the importance, where the model has a backward pass, else the norm. */
  headTarget: z.enum(headTargets).optional(),
  /** Width of the hidden layer of predictors for all layers. */
  hidden: z.int().min(1).max(16384).default(64),
  /** The tensor that neuron predictors read. Heads read attention-input when it is mlp-input, which comes too late for them. */
  source: z.enum(sources).default("mlp-input"),
  /** Largest rank tried; each layer takes the cheapest of it, its half, quarter and eighth. */
  rank: z.int().min(1).max(16384).default(64),
  /** Share of the active neurons that must be computed, per layer, on held-out rows. */
  recall: z.number().gt(0).max(1).default(0.94),
  /**
   * The perplexity, relative to dense, that may be lost: 0.01 is one percent. Given, a search chooses how much each layer
   * computes, and the bundle holds the whole trade-off; recall still tells which predictors are best.
   */
  maxPerplexityIncrease: z.number().gt(0).max(1).optional(),
  /** Held-out tokens that the search calibrates and reports on, half of them each. */
  curveRows: z.int().min(1000).default(20_000),
  /** KL to the dense model, in nats per token, that skipping heads in one layer may cause. */
  headTolerance: z.number().min(0).default(0.002),
  /** Tokens to capture. */
  rows: z.int().min(2000).default(40_000),
  epochs: z.int().min(0).max(1000).default(6),
  batchSize: z.int().min(16).max(65536).default(512),
  learningRate: z.number().gt(0).lt(1).default(3e-3),
  seed: z.int().min(0).default(0),
});

export type PrepareOptions = z.input<typeof optionsSchema> & {
  onProgress?: (stage: PrepareStage, done: number, total: number) => void;
  signal?: AbortSignal | undefined;
};
export type ResolvedPrepareOptions = z.output<typeof optionsSchema>;

/** What there is to do, in order, where recall decides, and where a budget does; `importance` only if heads learn it. */
export const prepareStages = ["capture", "importance", "train", "heads", "check"] as const;
export const budgetStages = ["capture", "importance", "train", "layers", "curve", "uniform"] as const;
export type PrepareStage = (typeof prepareStages | typeof budgetStages)[number];

/** Options that say how much to compute, which is what the budget says. */
const replacedByBudget = ["recall", "headTolerance"] as const;

/** Options that one kind of predictor has no use for. */
const foreign = { "per-layer": ["hidden"], shadow: ["source", "rank", "headTarget"] } as const;

/** @throws UsageError naming the option and its value */
export function resolveOptions(options: PrepareOptions): ResolvedPrepareOptions {
  const { onProgress: _progress, signal: _signal, ...rest } = options;
  const { maxPerplexityIncrease: budget } = rest;
  const other = replacedByBudget.find((name) => rest[name] !== undefined);
  if (budget !== undefined && other !== undefined)
    throw new UsageError(
      `maxPerplexityIncrease is ${budget} and ${other} is ${rest[other]}: both say how much to compute; give one of them`,
    );
  const kind = rest.predictor ?? "per-layer";
  const useless = foreign[kind]?.find((name) => rest[name] !== undefined);
  if (useless !== undefined)
    throw new UsageError(
      `${useless} is ${JSON.stringify(rest[useless])}, which says nothing to a predictor "${kind}"; leave it out`,
    );
  const parsed = optionsSchema.safeParse(rest);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const value = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown>)?.[key], rest);
  throw new UsageError(`${issue.path.join(".")} is ${JSON.stringify(value)}: ${issue.message}`);
}

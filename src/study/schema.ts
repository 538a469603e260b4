/** The shape of report.json, and of the parts that are kept between runs. Shares are in 0 … 1. */
import { z } from "zod";

const share = z.number().min(0).max(1);
/** A mean of a few shares may end a rounding error above 1. */
const cosineValue = z.number().min(-1.0001).max(1.0001);

export const layerSparsity = z.strictObject({
  layer: z.int(),
  /** Share of the neurons that is above zero: its distribution over tokens. */
  mean: share,
  p5: share,
  p25: share,
  median: share,
  p75: share,
  p95: share,
  /** Share of neurons that no observed token made active. */
  neverActive: share,
  /** Mean share of the sum of head norms that the head of each rank holds, largest first. */
  headShares: z.array(share),
});

export const layerSimilarity = z.strictObject({
  layer: z.int(),
  /** Mean cosine of attention-input of this block and of the next; null for the last block. */
  nextBlock: cosineValue.nullable(),
  /** Mean cosine of attention-input and mlp-input of this block. */
  halfBlock: cosineValue,
  /** Mean overlap |∩| / |∪| of the true sets of a token and of the next. */
  nextToken: share,
  /** The same for tokens of different documents: what any two tokens share. */
  anyTokens: share,
});

export const layerUnion = z.strictObject({ layer: z.int(), true: share, predicted: share.nullable() });

export const batchUnion = z.strictObject({
  batch: z.int(),
  /** Mean over layers and batches of the share of neurons that some token of the batch needs. */
  true: share,
  predicted: share.nullable(),
  layers: z.array(layerUnion),
});

export const observation = z.strictObject({
  documents: z.int(),
  tokens: z.int(),
  sparsity: z.array(layerSparsity),
  similarity: z.array(layerSimilarity),
  union: z.array(batchUnion),
});

const fidelity = z.strictObject({ density: share, recall: share, precision: share });
const unitFidelity = z.strictObject({ mlp: fidelity, heads: fidelity });

/** One run of the model under a selector, against dense. */
export const scored = z.strictObject({
  scoredIds: z.int(),
  perplexity: z.number(),
  densePerplexity: z.number(),
  kl: z.number(),
  top1Agreement: share,
  mlp: fidelity,
  heads: fidelity,
  layers: z.array(unitFidelity),
  /** Bytes of weights per token. */
  bytes: z.strictObject({
    dense: z.number(),
    touched: z.number(),
    mlpDense: z.number(),
    mlpTouched: z.number(),
    neuronPredictors: z.number(),
    headPredictors: z.number(),
  }),
});

export const curveUnits = ["mlp", "heads", "both"] as const;
export const curveKinds = ["oracle", "predicted", "static", "random"] as const;

export const curvePoint = z.strictObject({
  /** Share of units asked for. */
  asked: share,
  mlpDensity: share,
  headDensity: share,
  perplexity: z.number(),
  /** perplexity / dense − 1 */
  increase: z.number(),
  kl: z.number(),
  top1Agreement: share,
});

export const curve = z.strictObject({
  unit: z.enum(curveUnits),
  selector: z.enum(curveKinds),
  points: z.array(curvePoint),
  /** Density at the knee; null where the curve has none. */
  knee: share.nullable(),
  /** Smallest density measured whose perplexity is at most 1 % above dense; null if none is. */
  nearlyDense: share.nullable(),
});

const spread = z.strictObject({ median: z.number(), p25: z.number(), p75: z.number() });
const phaseSeconds = z.strictObject({
  predictor: z.number(),
  attention: z.number(),
  mlp: z.number(),
  output: z.number(),
  rest: z.number(),
});

export const speedSide = z.strictObject({ tokensPerSecond: spread, phases: phaseSeconds });
export const speed = z.strictObject({
  tokens: z.int(),
  rounds: z.int(),
  /** Rounds of their own that the phases are medians of. */
  profiledRounds: z.int(),
  prompt: z.string(),
  /** Load average of the machine over the minute before. */
  loadBefore: z.number(),
  dense: speedSide,
  sparse: speedSide.nullable(),
  /** Sparse over dense, round by round. */
  speedup: spread.nullable(),
});

export const byteParts = ["fc1", "fc2", "headProjections", "keyValues", "predictors", "always"] as const;
const bytesByPart = z.strictObject({
  fc1: z.number(),
  fc2: z.number(),
  headProjections: z.number(),
  keyValues: z.number(),
  predictors: z.number(),
  always: z.number(),
});
export const bytes = z.strictObject({
  dense: bytesByPart,
  /** Under the bundle's policy. */
  touched: bytesByPart.nullable(),
  /** If the true neuron sets were known for nothing and all heads computed: a lower bound without loss. */
  trueSets: bytesByPart,
});

const machine = z.strictObject({
  cpu: z.string(),
  cores: z.int(),
  memoryBytes: z.number(),
  node: z.string(),
  backend: z.string(),
  instructionSet: z.string(),
  threads: z.int(),
});

export const reportSchema = z.strictObject({
  version: z.literal(1),
  program: z.string(),
  command: z.string(),
  finished: z.iso.datetime(),
  machine,
  model: z.strictObject({
    name: z.string(),
    type: z.string(),
    fingerprint: z.string(),
    parameters: z.number(),
    dtype: z.string(),
    bytes: z.number(),
    layers: z.int(),
    hiddenSize: z.int(),
    heads: z.int(),
    ffnDim: z.int(),
  }),
  texts: z.array(z.strictObject({ name: z.string(), sha256: z.string() })),
  settings: z.record(z.string(), z.union([z.number(), z.array(z.number())])),
  bundle: z
    .strictObject({
      sha256: z.string(),
      sources: z.strictObject({ heads: z.string(), neurons: z.string() }),
      provenance: z.record(z.string(), z.unknown()),
    })
    .nullable(),
  observation,
  quality: z.strictObject({
    documents: z.int(),
    scoredIds: z.int(),
    densePerplexity: z.number(),
    kneeRule: z.string(),
    curves: z.array(curve),
  }),
  /** Under the bundle's policy. */
  predictors: scored.nullable(),
  speed,
  bytes,
  /** What the report says about each part. */
  findings: z.record(z.string(), z.array(z.string())),
});

export type LayerSparsity = z.infer<typeof layerSparsity>;
export type LayerSimilarity = z.infer<typeof layerSimilarity>;
export type BatchUnion = z.infer<typeof batchUnion>;
export type Observation = z.infer<typeof observation>;
export type Scored = z.infer<typeof scored>;
export type CurveUnit = (typeof curveUnits)[number];
export type CurveKind = (typeof curveKinds)[number];
export type CurvePoint = z.infer<typeof curvePoint>;
export type Curve = z.infer<typeof curve>;
export type Speed = z.infer<typeof speed>;
export type Bytes = z.infer<typeof bytes>;
export type BytesByPart = z.infer<typeof bytesByPart>;
export type MachineFacts = z.infer<typeof machine>;
export type Report = z.infer<typeof reportSchema>;
/** A report before it says what its numbers mean. */
export type Numbers = Omit<Report, "findings">;

/** What a bundle states about itself: JSON in the header of its file. */
import { z } from "zod";
import { BundleError } from "../util/errors.ts";
import type { Weights } from "../weights/index.ts";
import { curvePoint, searchRecord } from "./curve.ts";
import { type Policy, policySchema } from "./policy.ts";
import { predictorKinds } from "./predictor.ts";
import { predictorSources, type UnitKind } from "./selector.ts";

/** 2: with the trade-off curve. 3: knows the model by the fingerprint of its weights. */
export const bundleVersion = 3;
export const metadataKey = "dejavu-bundle";
export const unitKinds: readonly UnitKind[] = ["heads", "neurons"];

/** Of a head: the norm of its output, or |∂loss/∂output · output| over the largest of its token and layer. */
export const headTargets = ["importance", "norm"] as const;
export type HeadTarget = (typeof headTargets)[number];

/** What calibration measured for a layer, on rows that training never saw. */
const layerCalibration = z.strictObject({
  rank: z.int().min(0),
  density: z.number(),
  recall: z.number(),
  precision: z.number(),
});

export const metadataSchema = z.strictObject({
  version: z.literal(bundleVersion),
  model: z.strictObject({
    fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
    modelType: z.string(),
    layers: z.int().min(1).max(1024),
    hiddenSize: z.int().min(1),
    heads: z.int().min(1),
    ffnDim: z.int().min(1),
  }),
  predictor: z.enum(predictorKinds).default("per-layer"),
  sources: z.strictObject({ heads: z.enum(predictorSources), neurons: z.enum(predictorSources) }),
  /** What the predictors learned of a unit. */
  targets: z
    .strictObject({ heads: z.enum(headTargets), neurons: z.literal("active") })
    .default({ heads: "norm", neurons: "active" }),
  /** What runs when nothing else is asked for: one point of the curve, where there is one. */
  policy: policySchema,
  /** The points between dense and the sparsest policy tried, dense end first; empty where recall decided. */
  curve: z.array(curvePoint),
  search: searchRecord.nullable(),
  calibration: z.strictObject({
    heads: z.array(layerCalibration),
    neurons: z.array(layerCalibration),
    /** Perplexity on the held-out documents, dense and with this bundle. */
    perplexity: z.strictObject({ dense: z.number(), predicted: z.number() }),
  }),
  provenance: z.strictObject({
    program: z.string(),
    texts: z.array(z.strictObject({ name: z.string(), sha256: z.string() })),
    documents: z.int(),
    rows: z.int(),
    heldOutRows: z.int(),
    options: z.record(z.string(), z.union([z.number(), z.string()])),
    kernels: z.string(),
  }),
});

export type BundleMetadata = z.infer<typeof metadataSchema>;
export type BundleModel = BundleMetadata["model"];

/** Every policy that the bundle may be asked to run. */
export const policiesOf = ({ policy, curve }: BundleMetadata): readonly Policy[] => [
  policy,
  ...curve.map((point) => point.policy),
];

const batchesOf = ({ batches = [] }: Policy) => batches.map(({ neurons }) => neurons);

/** Everything that is stated per layer is stated for each. */
function checkLengths(file: string, metadata: BundleMetadata): void {
  const { layers } = metadata.model;
  const lists = (unit: UnitKind) => [
    ...policiesOf(metadata).map((policy) => policy[unit]),
    ...metadata.curve.map(({ densities }) => densities[unit]),
    metadata.calibration[unit],
    ...(unit === "neurons" ? policiesOf(metadata).flatMap(batchesOf) : []),
  ];
  for (const unit of unitKinds)
    for (const { length } of lists(unit))
      if (length !== layers)
        throw new BundleError(`${file}: ${length} entries for ${unit}, the model has ${layers} layers`);
}

function checkSources(file: string, { predictor, sources }: BundleMetadata): void {
  for (const unit of unitKinds)
    if ((sources[unit] === "first-block") !== (predictor === "shadow"))
      throw new BundleError(`${file}: a predictor "${predictor}" of ${unit} cannot read ${sources[unit]}`);
  if (sources.heads === "mlp-input")
    throw new BundleError(`${file}: heads cannot be predicted from mlp-input, which comes after them`);
}

/** Reads the metadata and checks that it belongs to `model`. */
export function parseMetadata(file: string, weights: Weights, model: BundleModel): BundleMetadata {
  const text = weights.metadata.get(metadataKey);
  if (text === undefined)
    throw new BundleError(`${file}: not a bundle: its metadata has no "${metadataKey}"`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new BundleError(`${file}: the bundle's metadata is not JSON`, { cause });
  }
  const version = (json as { version?: unknown } | null)?.version;
  if (version !== bundleVersion)
    throw new BundleError(
      `${file}: bundle version ${JSON.stringify(version)}, this program reads ${bundleVersion}. Make it anew with: dejavu prepare`,
    );
  const parsed = metadataSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new BundleError(`${file}: metadata ${issue.path.join(".")}: ${issue.message}`);
  }
  const metadata = parsed.data;
  for (const key of Object.keys(model) as (keyof BundleModel)[])
    if (metadata.model[key] !== model[key])
      throw new BundleError(
        `${file}: made for another model: ${key} is ${metadata.model[key]}, the loaded weights have ${model[key]}. Make one for these weights with: dejavu prepare`,
      );
  checkLengths(file, metadata);
  checkSources(file, metadata);
  return metadata;
}

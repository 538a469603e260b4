/**
 * A bundle: predictors, policy, unit statistics and their provenance, for one set of weights, in one safetensors file.
 * Everything about it is checked before it is used. There is no falling back: what does not fit is an error.
 */
import { z } from "zod";
import type { Kernels } from "../kernels/contract.ts";
import { bytesPerElement, type FloatDtype, hostView, toFloat32 } from "../tensor/dtype.ts";
import { elementCount, type Tensor } from "../tensor/tensor.ts";
import { BundleError } from "../util/errors.ts";
import { openSafetensors, type Weights, writeSafetensors } from "../weights/index.ts";
import type { UnitStatistics } from "./fixed.ts";
import { policySchema } from "./policy.ts";
import type { Predictor, Predictors } from "./predictor.ts";
import { sources, type UnitKind } from "./selector.ts";

export const bundleVersion = 1;
/** The file name that `prepare` writes and `load` looks for, beside the weights. */
export const bundleFileName = "dejavu-bundle.safetensors";
const metadataKey = "dejavu-bundle";

/** What calibration measured for a layer, on rows that training never saw. */
const layerCalibration = z.strictObject({
  rank: z.int().min(0),
  density: z.number(),
  recall: z.number(),
  precision: z.number(),
});

const metadataSchema = z.strictObject({
  version: z.literal(bundleVersion),
  model: z.strictObject({
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    modelType: z.string(),
    layers: z.int().min(1).max(1024),
    hiddenSize: z.int().min(1),
    heads: z.int().min(1),
    ffnDim: z.int().min(1),
  }),
  sources: z.strictObject({ heads: z.enum(sources), neurons: z.enum(sources) }),
  policy: policySchema,
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

export interface Bundle {
  readonly file: string;
  readonly metadata: BundleMetadata;
  readonly predictors: Predictors;
  readonly statistics: UnitStatistics;
  dispose(): void;
}

export interface BundleTensor {
  name: string;
  dtype: "F32" | "F16" | "BF16";
  shape: number[];
  data: Uint8Array;
}

const storedDtypes: Record<string, FloatDtype> = { F32: "f32", F16: "f16", BF16: "bf16" };
const unitKinds: readonly UnitKind[] = ["heads", "neurons"];

/** Names of a layer's tensors: `neurons.3.down` and so on. `score` holds the statistics of the static selector. */
export const bundleTensorName = (
  unit: UnitKind,
  layer: number,
  part: "down" | "up" | "bias" | "score",
): string => `${unit}.${layer}.${part}`;

/** Writes the file whole or not at all. */
export async function writeBundle(
  file: string,
  metadata: BundleMetadata,
  tensors: readonly BundleTensor[],
): Promise<void> {
  await writeSafetensors(file, [...tensors], {
    [metadataKey]: JSON.stringify(metadataSchema.parse(metadata)),
  });
}

/** Reads the metadata and checks that it belongs to `model`. */
function parseMetadata(file: string, weights: Weights, model: BundleModel): BundleMetadata {
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
  for (const unit of unitKinds)
    for (const list of [metadata.policy[unit], metadata.calibration[unit]])
      if (list.length !== model.layers)
        throw new BundleError(
          `${file}: ${list.length} entries for ${unit}, the model has ${model.layers} layers`,
        );
  return metadata;
}

/** Checks shapes and sources of all predictors and statistics before any memory is taken. */
function checkTensors(file: string, weights: Weights, metadata: BundleMetadata): void {
  const { model, policy } = metadata;
  const seen = new Set<string>();
  const check = (name: string, ...shape: (number | null)[]): readonly number[] => {
    const info = weights.tensors.get(name);
    if (info === undefined) throw new BundleError(`${file}: tensor "${name}" is missing`);
    if (!(info.dtype in storedDtypes)) throw new BundleError(`${file}: tensor "${name}" is ${info.dtype}`);
    if (info.shape.length !== shape.length || shape.some((n, i) => n !== null && n !== info.shape[i]))
      throw new BundleError(
        `${file}: tensor "${name}" is [${info.shape.join(", ")}], expected [${shape.map((n) => n ?? "any").join(", ")}]`,
      );
    seen.add(name);
    return info.shape;
  };
  for (const unit of unitKinds)
    for (let layer = 0; layer < model.layers; layer++) {
      const units = unit === "heads" ? model.heads : model.ffnDim;
      const name = (part: "down" | "up" | "bias" | "score") => bundleTensorName(unit, layer, part);
      check(name("score"), units);
      const layerPolicy = policy[unit][layer]!;
      if (layerPolicy.kind === "topK" && layerPolicy.k > units)
        throw new BundleError(
          `${file}: policy of layer ${layer} asks for ${layerPolicy.k} of ${units} ${unit}`,
        );
      if (layerPolicy.kind === "dense" && !weights.tensors.has(name("up"))) continue;
      if (layer === 0 && metadata.sources[unit] === "previous-block")
        throw new BundleError(`${file}: layer 0 has no previous block to predict ${unit} from`);
      if (unit === "heads" && metadata.sources[unit] === "mlp-input")
        throw new BundleError(`${file}: heads cannot be predicted from mlp-input, which comes after them`);
      const rank = weights.tensors.has(name("down"))
        ? check(name("down"), null, model.hiddenSize)[0]!
        : model.hiddenSize;
      if (rank === 0) throw new BundleError(`${file}: tensor "${name("down")}" has rank 0`);
      check(name("up"), units, rank);
      check(name("bias"), units);
    }
  for (const name of weights.tensors.keys())
    if (!seen.has(name)) throw new BundleError(`${file}: unexpected tensor "${name}"`);
}

async function readFloats(weights: Weights, name: string): Promise<Float32Array> {
  const info = weights.tensors.get(name)!;
  const dtype = storedDtypes[info.dtype]!;
  const bytes = new Uint8Array(elementCount(info.shape) * bytesPerElement[dtype]);
  await weights.read(name, bytes);
  return toFloat32(dtype, hostView(dtype, bytes.buffer, 0, elementCount(info.shape)));
}

/**
 * Loads a bundle for the model given.
 * @throws BundleError when it is not a bundle, is of another version or for another model, or its parts do not fit
 * @throws WeightsError when the file is not a sound safetensors file
 */
export async function loadBundle(kernels: Kernels, file: string, model: BundleModel): Promise<Bundle> {
  const weights = await openSafetensors(file);
  const owned: Tensor[] = [];
  try {
    const metadata = parseMetadata(file, weights, model);
    checkTensors(file, weights, metadata);
    const matrix = async (name: string): Promise<Tensor> => {
      const { dtype, shape } = weights.tensors.get(name)!;
      const tensor = kernels.allocate(storedDtypes[dtype]!, shape);
      owned.push(tensor);
      await kernels.upload(tensor, (bytes) => weights.read(name, bytes));
      return tensor;
    };
    const predictor = async (unit: UnitKind, layer: number): Promise<Predictor | null> => {
      const name = (part: "down" | "up" | "bias") => bundleTensorName(unit, layer, part);
      if (!weights.tensors.has(name("up"))) return null;
      const values = await readFloats(weights, name("bias"));
      const bias = kernels.allocate("f32", [values.length]);
      owned.push(bias);
      kernels.write(bias, values);
      const down = weights.tensors.has(name("down")) ? await matrix(name("down")) : null;
      return { source: metadata.sources[unit], down, up: await matrix(name("up")), bias };
    };
    const layers = Array.from({ length: model.layers }, (_, layer) => layer);
    const perLayer = async <T>(make: (layer: number) => Promise<T>): Promise<T[]> => {
      const results: T[] = [];
      for (const layer of layers) results.push(await make(layer));
      return results;
    };
    const score = (unit: UnitKind) =>
      perLayer((layer) => readFloats(weights, bundleTensorName(unit, layer, "score")));
    return {
      file,
      metadata,
      predictors: {
        heads: await perLayer((layer) => predictor("heads", layer)),
        neurons: await perLayer((layer) => predictor("neurons", layer)),
      },
      statistics: { heads: await score("heads"), neurons: await score("neurons") },
      dispose() {
        for (const tensor of owned) kernels.free(tensor);
      },
    };
  } catch (error) {
    for (const tensor of owned) kernels.free(tensor);
    throw error;
  } finally {
    await weights.close();
  }
}

/**
 * A bundle: predictors, policy, unit statistics and their provenance, for one set of weights, in one safetensors file.
 * Everything about it is checked before it is used. There is no falling back: what does not fit is an error.
 */
import type { Kernels } from "../kernels/contract.ts";
import { bytesPerElement, type FloatDtype, hostView, toFloat32, type WeightDtype } from "../tensor/dtype.ts";
import { findUnrepresentable } from "../tensor/representable.ts";
import { elementCount, type Tensor } from "../tensor/tensor.ts";
import { transposed } from "../tensor/transposed.ts";
import { BundleError } from "../util/errors.ts";
import { openSafetensors, type Weights, writeSafetensors } from "../weights/index.ts";
import {
  type BundleMetadata,
  type BundleModel,
  metadataKey,
  metadataSchema,
  parseMetadata,
  policiesOf,
  unitKinds,
} from "./bundle-metadata.ts";
import type { UnitStatistics } from "./fixed.ts";
import type { LayerPolicy } from "./policy.ts";
import { type Predictor, type PredictorKind, type Predictors, predictorDtype } from "./predictor.ts";
import type { PredictorSource, UnitKind } from "./selector.ts";

export {
  type BundleMetadata,
  type BundleModel,
  bundleVersion,
  type HeadTarget,
  headTargets,
} from "./bundle-metadata.ts";

/** The file name that `prepare` writes and `load` looks for, beside the weights. */
export const bundleFileName = "dejavu-bundle.safetensors";

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

export type BundlePart = "down" | "up" | "bias" | "score";

/**
 * Names of a layer's tensors: `neurons.3.up` and so on; `neurons.down` where one predictor serves all layers. `score`
 * holds the statistics of the static selector.
 */
export const bundleTensorName = (
  kind: PredictorKind,
  unit: UnitKind,
  layer: number,
  part: BundlePart,
): string => (kind === "shadow" && part === "down" ? `${unit}.down` : `${unit}.${layer}.${part}`);

/** Whether a layer's units can be predicted from a source: whether the source exists before they are chosen. */
export const isPredictable = (source: PredictorSource, unit: UnitKind, layer: number): boolean =>
  layer > 0 || !(source === "previous-block" || (source === "first-block" && unit === "heads"));

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

/** Checks shapes and sources of all predictors and statistics before any memory is taken. */
function checkTensors(file: string, weights: Weights, metadata: BundleMetadata): void {
  const { model } = metadata;
  const policies = policiesOf(metadata);
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
      const name = (part: BundlePart) => bundleTensorName(metadata.predictor, unit, layer, part);
      check(name("score"), units);
      const asked = policies.map((policy): LayerPolicy => policy[unit][layer]!);
      for (const one of asked)
        if (one.kind === "topK" && one.k > units)
          throw new BundleError(`${file}: policy of layer ${layer} asks for ${one.k} of ${units} ${unit}`);
      if (asked.every(({ kind }) => kind === "dense") && !weights.tensors.has(name("up"))) continue;
      if (!isPredictable(metadata.sources[unit], unit, layer))
        throw new BundleError(
          `${file}: ${unit} of layer ${layer} cannot be predicted from ${metadata.sources[unit]}, which does not exist by then`,
        );
      const rank =
        metadata.predictor === "shadow" || weights.tensors.has(name("down"))
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

/** A matrix as it is stored, or transposed, or rounded to `dtype`. The caller frees it. */
async function readMatrix(
  kernels: Kernels,
  file: string,
  weights: Weights,
  name: string,
  dtype: WeightDtype | undefined,
  isTransposed: boolean,
): Promise<Tensor> {
  const info = weights.tensors.get(name)!;
  const stored = storedDtypes[info.dtype]!;
  const [rows, columns] = info.shape as [number, number];
  const shape = isTransposed ? [columns, rows] : info.shape;
  const tensor = kernels.allocate(stored, shape);
  await kernels.upload(tensor, async (bytes) => {
    await weights.read(name, bytes);
    if (isTransposed) {
      const values = hostView(stored, bytes.buffer as ArrayBuffer, bytes.byteOffset, rows * columns) as
        | Float32Array
        | Uint16Array;
      values.set(transposed(values, rows, columns));
    }
    const found = dtype === undefined ? null : findUnrepresentable(stored, bytes, dtype);
    if (found !== null)
      throw new BundleError(`${file}: tensor "${name}" holds ${found.value}, which ${dtype} cannot hold`);
  });
  if (dtype === undefined || dtype === stored) return tensor;
  const rounded = kernels.allocate(dtype, shape);
  kernels.convert(rounded, 0, tensor, 0, shape[0]!);
  kernels.free(tensor);
  return rounded;
}

/**
 * Loads a bundle for the model given.
 * @param dtype of the predictors' matrices, but int8 where a lone one would be int4; default: as they are stored
 * @throws BundleError when it is not a bundle, is of another version or for another model, or its parts do not fit
 * @throws WeightsError when the file is not a sound safetensors file
 */
export async function loadBundle(
  kernels: Kernels,
  file: string,
  model: BundleModel,
  dtype?: WeightDtype,
): Promise<Bundle> {
  const weights = await openSafetensors(file);
  const owned: Tensor[] = [];
  try {
    const metadata = parseMetadata(file, weights, model);
    checkTensors(file, weights, metadata);
    const matrices = new Map<string, Tensor>();
    const matrix = async (
      name: string,
      kind: WeightDtype | undefined,
      isTransposed = false,
    ): Promise<Tensor> => {
      const loaded = matrices.get(name);
      if (loaded !== undefined) return loaded;
      const tensor = await readMatrix(kernels, file, weights, name, kind, isTransposed);
      owned.push(tensor);
      matrices.set(name, tensor);
      return tensor;
    };
    const predictor = async (unit: UnitKind, layer: number): Promise<Predictor | null> => {
      const name = (part: BundlePart) => bundleTensorName(metadata.predictor, unit, layer, part);
      if (!weights.tensors.has(name("up"))) return null;
      const values = await readFloats(weights, name("bias"));
      const bias = kernels.allocate("f32", [values.length]);
      owned.push(bias);
      kernels.write(bias, values);
      const hasDown = weights.tensors.has(name("down"));
      const kind = predictorDtype(dtype, hasDown);
      const down = hasDown ? await matrix(name("down"), kind) : null;
      return { source: metadata.sources[unit], down, up: await matrix(name("up"), kind, hasDown), bias };
    };
    const layers = Array.from({ length: model.layers }, (_, layer) => layer);
    const perLayer = async <T>(make: (layer: number) => Promise<T>): Promise<T[]> => {
      const results: T[] = [];
      for (const layer of layers) results.push(await make(layer));
      return results;
    };
    const score = (unit: UnitKind) =>
      perLayer((layer) => readFloats(weights, bundleTensorName(metadata.predictor, unit, layer, "score")));
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

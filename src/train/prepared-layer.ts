/** What training leaves of a layer, and its two ways on: onto the device for calibration, and into the bundle. */
import type { Kernels } from "../kernels/contract.ts";
import { type BundlePart, type BundleTensor, bundleTensorName } from "../sparsity/bundle.ts";
import type { Predictor, PredictorKind, Predictors } from "../sparsity/predictor.ts";
import type { PredictorSource, UnitKind } from "../sparsity/selector.ts";
import { fromFloat32 } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { transposed } from "../tensor/transposed.ts";
import type { Parameters } from "./factors.ts";
import type { OperatingPoint } from "./operating-point.ts";

/** A predictor of a layer's units, and where its logits may be cut. */
export interface PreparedPredictor {
  /** Null where no predictor is possible. One predictor for all layers has one `down`, the same array in each. */
  readonly parameters: Parameters | null;
  readonly point: OperatingPoint;
  /** Other points to cut at, dense end first, where a search is to choose; else empty. */
  readonly ladder: readonly OperatingPoint[];
  /** What each threshold above becomes where sequences decode together, by `batchSizes`. */
  readonly raised: ReadonlyMap<number, readonly number[]>;
}

export interface PreparedLayer extends PreparedPredictor {
  readonly units: number;
  readonly source: PredictorSource;
  /** Predictors of other ranks, where a search is to choose among them; else empty. */
  readonly alternatives: readonly PreparedPredictor[];
  /** Mean worth of each unit [units]: what the static selector ranks by. */
  readonly score: Float32Array;
}

/** Of units whose logits no threshold cuts: heads, and what is always dense. */
export const uncut = {
  point: { threshold: 0, density: 1, recall: 1, precision: 1 },
  ladder: [],
  raised: new Map<number, readonly number[]>(),
};

export type Prepared = Readonly<Record<UnitKind, readonly PreparedLayer[]>>;

/** Columns of `down` (or of a lone `up`). */
const inputWidth = ({ rank, down, up }: Parameters, units: number): number =>
  down === null ? up.length / units : down.length / rank;

/** Matrices are stored, and run, in half precision. */
const half = (values: Float32Array): Uint16Array => fromFloat32("f16", values) as Uint16Array;

/** Puts predictors where selectors can use them, exactly as a loaded bundle would. */
export function predictorOnDevice(
  kernels: Kernels,
  prepared: Prepared,
): { predictors: Predictors; dispose(): void } {
  const owned = new Map<Float32Array, Tensor>();
  const upload = (values: Float32Array, ...shape: number[]): Tensor => {
    const known = owned.get(values);
    if (known !== undefined) return known;
    const isVector = shape.length === 1;
    const tensor = kernels.allocate(isVector ? "f32" : "f16", shape);
    owned.set(values, tensor);
    kernels.write(tensor, isVector ? values : half(values));
    return tensor;
  };
  const predictor = ({ parameters, units, source }: PreparedLayer): Predictor | null => {
    if (parameters === null) return null;
    const { rank, down, up, bias } = parameters;
    const width = inputWidth(parameters, units);
    return {
      source,
      down: down && upload(down, rank, width),
      up: down === null ? upload(up, units, width) : upload(transposed(up, units, rank), rank, units),
      bias: upload(bias, units),
    };
  };
  return {
    predictors: { heads: prepared.heads.map(predictor), neurons: prepared.neurons.map(predictor) },
    dispose() {
      for (const tensor of owned.values()) kernels.free(tensor);
    },
  };
}

/** All tensors of a bundle. */
export function bundleTensors(kind: PredictorKind, prepared: Prepared): BundleTensor[] {
  const tensors = new Map<string, BundleTensor>();
  const add = (name: string, dtype: "F32" | "F16", shape: number[], values: Float32Array | Uint16Array) =>
    tensors.set(name, {
      name,
      dtype,
      shape,
      data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
    });
  for (const unit of ["heads", "neurons"] as const)
    for (const [layer, { parameters, units, score }] of prepared[unit].entries()) {
      const name = (part: BundlePart) => bundleTensorName(kind, unit, layer, part);
      add(name("score"), "F32", [units], score);
      if (parameters === null) continue;
      const { rank, down, up, bias } = parameters;
      const width = inputWidth(parameters, units);
      if (down !== null) add(name("down"), "F16", [rank, width], half(down));
      add(name("up"), "F16", [units, down === null ? width : rank], half(up));
      add(name("bias"), "F32", [units], bias);
    }
  return [...tensors.values()];
}

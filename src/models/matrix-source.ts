/** Matrices of a checkpoint as the kernels want them: by rows of the unit, in any dtype, a block of rows at a time. */
import type { Kernels } from "../kernels/contract.ts";
import { bytesPerElement, type FloatDtype, isQuantized, type WeightDtype } from "../tensor/dtype.ts";
import { findUnrepresentable } from "../tensor/representable.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { createBreather } from "../util/breathe.ts";
import { WeightsError } from "../util/errors.ts";
import type { TensorInfo, Weights } from "../weights/index.ts";

/** Memory for rows on their way to another dtype; of a matrix that is turned, as every pass reads all of it. */
const stagingBytes = 16 * 2 ** 20;
const turnedStagingBytes = 256 * 2 ** 20;

const floatDtypes: Readonly<Record<string, FloatDtype>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** What a tensor's elements are to the kernels. Only for tensors that were found to be weights. */
export const weightDtypeOf = ({ dtype }: TensorInfo): WeightDtype =>
  isQuantized(dtype as WeightDtype) ? (dtype as WeightDtype) : floatDtypes[dtype]!;

export interface MatrixSource {
  readonly name: string;
  readonly file: string;
  readonly dtype: WeightDtype;
  /** In memory: of a matrix that is turned, columns and rows of the file. */
  readonly shape: readonly [number, number];
  /** The file holds it transposed. */
  readonly isTurned: boolean;
  /** Fills `into` with `count` rows from `first` on. Of quantized matrices only all rows at once. */
  read(into: Uint8Array, first: number, count: number): Promise<void>;
}

/**
 * @param isTurned the file holds it transposed
 * @param blockBytes of what is read of such a matrix at once, at most, but one row
 */
export function matrixSource(
  weights: Weights,
  name: string,
  isTurned: boolean,
  blockBytes = stagingBytes,
): MatrixSource {
  const info = weights.tensors.get(name)!;
  const { file } = info;
  const dtype = weightDtypeOf(info);
  const [rows, columns] = info.shape as [number, number];
  if (isQuantized(dtype))
    return { name, file, dtype, shape: [rows, columns], isTurned, read: (into) => weights.read(name, into) };
  const rowBytes = columns * bytesPerElement[dtype];
  if (!isTurned) {
    const read = (into: Uint8Array, first: number) => weights.read(name, into, first * rowBytes);
    return { name, file, dtype, shape: [rows, columns], isTurned, read };
  }
  const read = async (into: Uint8Array, first: number, count: number) => {
    const blockRows = Math.max(1, Math.min(rows, Math.floor(blockBytes / rowBytes)));
    const block = new Uint8Array(blockRows * rowBytes);
    const View = dtype === "f32" ? Uint32Array : Uint16Array;
    const to = new View(into.buffer as ArrayBuffer, into.byteOffset, count * rows);
    for (let row = 0; row < rows; row += blockRows) {
      const taken = Math.min(blockRows, rows - row);
      await weights.read(name, block.subarray(0, taken * rowBytes), row * rowBytes);
      turn(to, rows, row, new View(block.buffer, 0, taken * columns), columns, first, count);
    }
  };
  return { name, file, dtype, shape: [columns, rows], isTurned, read };
}

/**
 * to[c − first, at + r] = from[r, c] for `count` columns from `first` on, for elements of 2 or 4 bytes, in tiles that stay
 * in the cache. `to` has rows of `width`, `from` of `columns` elements.
 */
function turn(
  to: Uint16Array | Uint32Array,
  width: number,
  at: number,
  from: Uint16Array | Uint32Array,
  columns: number,
  first: number,
  count: number,
): void {
  const tile = 32;
  const rows = from.length / columns;
  for (let r0 = 0; r0 < rows; r0 += tile)
    for (let c0 = 0; c0 < count; c0 += tile)
      for (let c = c0; c < Math.min(c0 + tile, count); c++)
        for (let r = r0; r < Math.min(r0 + tile, rows); r++)
          to[c * width + at + r] = from[r * columns + first + c]!;
}

/**
 * Fills `out`, of the source's shape, converting to its dtype on the way.
 * @param stagingLimit bytes of rows on their way at most, but one row
 * @throws WeightsError when a value cannot be had in that dtype; the signal's reason
 */
export async function fillMatrix(
  kernels: Kernels,
  out: Tensor,
  source: MatrixSource,
  signal?: AbortSignal,
  stagingLimit?: number,
): Promise<void> {
  const { dtype, shape, isTurned } = source;
  const [rows, columns] = shape;
  if (out.dtype === dtype) {
    await kernels.upload(out, (bytes) => source.read(bytes, 0, rows));
    return;
  }
  const breathe = createBreather(signal);
  const limit = stagingLimit ?? (isTurned ? turnedStagingBytes : stagingBytes);
  const rowBytes = isQuantized(dtype) ? 0 : columns * bytesPerElement[dtype];
  const blockRows = Math.max(1, Math.min(rows, rowBytes === 0 ? rows : Math.floor(limit / rowBytes)));
  const staging = kernels.allocate(dtype, [blockRows, columns]);
  try {
    for (let row = 0; row < rows; row += blockRows) {
      const count = Math.min(blockRows, rows - row);
      await kernels.upload(staging, async (bytes) => {
        const taken = rowBytes === 0 ? bytes : bytes.subarray(0, count * rowBytes);
        await source.read(taken, row, count);
        checkValues(source, taken, row, out.dtype as WeightDtype);
      });
      kernels.convert(out, row, staging, 0, count);
      await breathe();
    }
  } finally {
    kernels.free(staging);
  }
}

/** @throws WeightsError naming the first value, of rows from `row` on, that is none or too large */
function checkValues(source: MatrixSource, bytes: Uint8Array, row: number, target: WeightDtype): void {
  const { dtype, isTurned } = source;
  if (isQuantized(dtype)) return;
  const found = findUnrepresentable(dtype, bytes, target);
  if (found === null) return;
  const columns = source.shape[1];
  const [r, c] = [row + Math.floor(found.index / columns), found.index % columns];
  throw new WeightsError({
    file: source.file,
    tensor: source.name,
    reason: `the value at [${isTurned ? [c, r] : [r, c]}] is ${found.value}, which ${target} cannot hold`,
    remedy: "Are the weights damaged? Otherwise load them as they are, without --dtype.",
  });
}

/** Numbers that a dtype cannot hold, found before they turn into others. */
import { bf16ToNumber, f16ToNumber, type WeightDtype } from "../tensor/dtype.ts";
import { WeightsError } from "../util/errors.ts";

/** Where a matrix comes from. */
export interface Origin {
  readonly name: string;
  readonly file: string;
  readonly dtype: WeightDtype;
  /** In memory: of a matrix that is turned, columns and rows of the file. */
  readonly shape: readonly [number, number];
  /** The file holds it transposed. */
  readonly isTurned: boolean;
}

/** A matrix may be converted if all its values are below this. Of int4, the scales must be finite in f16. */
const limits: Readonly<Record<WeightDtype, number>> = {
  f32: Number.POSITIVE_INFINITY,
  f16: 65520, // would be rounded to infinity
  bf16: 2 ** 128 * (1 - 2 ** -9),
  int8: Number.POSITIVE_INFINITY,
  int4: 400_000,
};

/**
 * Checks rows of a source that are about to be converted.
 * @param row the first of them
 * @throws WeightsError naming the first value that is none or too large
 */
export function checkMagnitudes(source: Origin, bytes: Uint8Array, row: number, target: WeightDtype): void {
  const { dtype } = source;
  if (dtype === "int8" || dtype === "int4" || target === "f32") return;
  const at =
    dtype === "f32" ? findInFloats(bytes, limits[target]) : findInHalves(bytes, dtype, limits[target]);
  if (at === null) return;
  const columns = source.shape[1];
  const place = [row + Math.floor(at.index / columns), at.index % columns];
  const [r, c] = source.isTurned ? place.reverse() : place;
  throw new WeightsError({
    file: source.file,
    tensor: source.name,
    reason: `the value at [${r}, ${c}] is ${at.value}, which ${target} cannot hold`,
    remedy: "Are the weights damaged? Otherwise load them as they are, without --dtype.",
  });
}

type Found = { readonly index: number; readonly value: number } | null;

function findInFloats(bytes: Uint8Array, limit: number): Found {
  const values = new Float32Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length / 4);
  for (let index = 0; index < values.length; index++)
    if (!(Math.abs(values[index]!) < limit)) return { index, value: values[index]! };
  return null;
}

/** Bits of halves without their sign are in the order of the magnitudes, NaN above infinity. */
function findInHalves(bytes: Uint8Array, dtype: "f16" | "bf16", limit: number): Found {
  const widen = dtype === "f16" ? f16ToNumber : bf16ToNumber;
  let first = 0; // the smallest magnitude that is too large
  while (widen(first) < limit) first++;
  const halves = new Uint16Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length / 2);
  for (let index = 0; index < halves.length; index++)
    if ((halves[index]! & 0x7fff) >= first) return { index, value: widen(halves[index]!) };
  return null;
}

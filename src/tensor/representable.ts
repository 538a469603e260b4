/** Numbers that a dtype cannot hold, found before they turn into others. */
import { bf16ToNumber, type FloatDtype, f16ToNumber, type WeightDtype } from "./dtype.ts";

/** Values can be converted if they are below this. Of int4, it is the scales that must be finite in f16. */
const limits: Readonly<Record<WeightDtype, number>> = {
  f32: Number.POSITIVE_INFINITY,
  f16: 65520, // would be rounded to infinity
  bf16: 2 ** 128 * (1 - 2 ** -9),
  int8: Number.POSITIVE_INFINITY,
  int4: 400_000,
};

/**
 * The first of the values, given as bytes, that is none or too large for `target`; null if there is none. To float32
 * anything can be converted.
 */
export function findUnrepresentable(
  dtype: FloatDtype,
  bytes: Uint8Array,
  target: WeightDtype,
): { readonly index: number; readonly value: number } | null {
  if (target === "f32") return null;
  const { buffer, byteOffset } = bytes;
  if (dtype === "f32")
    return findInFloats(new Float32Array(buffer, byteOffset, bytes.length / 4), limits[target]);
  const widen = dtype === "f16" ? f16ToNumber : bf16ToNumber;
  return findInHalves(new Uint16Array(buffer, byteOffset, bytes.length / 2), widen, limits[target]);
}

function findInFloats(values: Float32Array, limit: number) {
  for (let index = 0; index < values.length; index++)
    if (!(Math.abs(values[index]!) < limit)) return { index, value: values[index]! };
  return null;
}

/** Bits of halves without their sign are in the order of the magnitudes, NaN above infinity. */
function findInHalves(halves: Uint16Array, widen: (bits: number) => number, limit: number) {
  let first = 0; // the bits of the smallest magnitude that is too large
  while (widen(first) < limit) first++;
  for (let index = 0; index < halves.length; index++)
    if ((halves[index]! & 0x7fff) >= first) return { index, value: widen(halves[index]!) };
  return null;
}

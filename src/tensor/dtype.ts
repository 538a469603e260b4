/** Element types that tensors in memory may have. Half-precision bits travel as Uint16Array: Node 20 has no Float16Array. */
export type FloatDtype = "f32" | "f16" | "bf16";

/** Formats whose elements share scales: matrices only, laid out as quantized.ts says. */
export type QuantizedDtype = "int8" | "int4";

/** The dtypes that a weight matrix may have; activations are always `f32`. */
export type WeightDtype = FloatDtype | QuantizedDtype;
export const weightDtypes = ["f32", "f16", "bf16", "int8", "int4"] as const satisfies readonly WeightDtype[];

export type Dtype = WeightDtype | "i32" | "u8";

/** Of the dtypes that store one element after another. */
export const bytesPerElement: Readonly<Record<Exclude<Dtype, QuantizedDtype>, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  i32: 4,
  u8: 1,
};

export const isWeightDtype = (dtype: string): dtype is WeightDtype =>
  (weightDtypes as readonly string[]).includes(dtype);

export const isQuantized = (dtype: Dtype): dtype is QuantizedDtype => dtype === "int8" || dtype === "int4";

export type HostArray = Float32Array | Uint16Array | Int32Array | Uint8Array;

/** A typed view of `length` elements of `dtype` at `byteOffset` of `buffer`; of a quantized dtype, `length` bytes. */
export function hostView(
  dtype: Dtype,
  buffer: ArrayBufferLike,
  byteOffset: number,
  length: number,
): HostArray {
  switch (dtype) {
    case "f32":
      return new Float32Array(buffer, byteOffset, length);
    case "f16":
    case "bf16":
      return new Uint16Array(buffer, byteOffset, length);
    case "i32":
      return new Int32Array(buffer, byteOffset, length);
    case "u8":
    case "int8":
    case "int4":
      return new Uint8Array(buffer, byteOffset, length);
    default:
      return dtype satisfies never;
  }
}

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

/** bfloat16 bits → number: the upper half of a float32. */
export function bf16ToNumber(bits: number): number {
  scratchBits[0] = bits << 16;
  return scratchFloat[0]!;
}

/** IEEE 754 binary16 bits → number, subnormals, infinities and NaN included. */
export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** number → bfloat16 bits, rounding to nearest even; NaN stays NaN. */
export function numberToBf16(value: number): number {
  scratchFloat[0] = value;
  const bits = scratchBits[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** number → binary16 bits, rounding to nearest even from the float32 nearest to `value`. */
export function numberToF16(value: number): number {
  scratchFloat[0] = value;
  const bits = scratchBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // rounds past 65504
  if (magnitude < 0x38800000) {
    // Subnormal result: units of 2^-24. Adding 0.5 to the magnitude lets float32 arithmetic do the rounding.
    scratchBits[0] = magnitude;
    scratchFloat[0] = scratchFloat[0]! + 0.5;
    return sign | (scratchBits[0]! - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/** Widens stored floats to float32; a float32 input is returned as it is. */
export function toFloat32(dtype: FloatDtype, stored: HostArray): Float32Array {
  if (dtype === "f32") return stored as Float32Array;
  const widen = dtype === "f16" ? f16ToNumber : bf16ToNumber;
  const [from, wide] = [stored as Uint16Array, new Float32Array(stored.length)];
  for (let i = 0; i < wide.length; i++) wide[i] = widen(from[i]!); // `from` with a function takes many times as long
  return wide;
}

/** Narrows float32 values to `dtype`; for `f32` the input is returned as it is. */
export function fromFloat32(dtype: FloatDtype, values: Float32Array): HostArray {
  if (dtype === "f32") return values;
  const narrow = dtype === "f16" ? numberToF16 : numberToBf16;
  const narrowed = new Uint16Array(values.length);
  for (let i = 0; i < narrowed.length; i++) narrowed[i] = narrow(values[i]!);
  return narrowed;
}

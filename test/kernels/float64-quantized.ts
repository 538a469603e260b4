/** Quantized matrices once more, as formulas: what their bytes mean, and which bytes stand for a row of numbers. */
import { f16ToNumber, numberToF16 } from "../../src/tensor/dtype.ts";
import { int4Divisors } from "../../src/tensor/quantized.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

const { fround } = Math;
const upTo = (n: number): number[] => [...Array(n).keys()];
const blocksOf = (values: number[]): number[][] =>
  upTo(Math.ceil(values.length / 32)).map((b) => values.slice(b * 32, b * 32 + 32));

/** To the nearest integer, ties to the even one. */
function even(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return below + (rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? 1 : 0);
}

/** Bytes of a row's codes, and where the scales of all rows start. */
function places({ dtype, shape }: Tensor) {
  const [rows, columns] = shape as [number, number];
  const groups = Math.ceil(columns / 64);
  const stride = groups * (dtype === "int8" ? 64 : 32);
  return { rows, columns, groups, stride, scales: Math.ceil((rows * stride) / 64) * 64 };
}

/** The numbers that a matrix's bytes stand for, row by row. */
export function decode(tensor: Tensor, bytes: Uint8Array): number[] {
  const { rows, columns, groups, stride, scales } = places(tensor);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return upTo(rows).flatMap((r) =>
    upTo(columns).map((c) => {
      if (tensor.dtype === "int8")
        return view.getInt8(r * stride + c) * view.getFloat32(scales + r * 4, true);
      const byte = view.getUint8(r * stride + (c >> 6) * 32 + (c & 31));
      const code = ((c & 63) < 32 ? byte & 15 : byte >> 4) - 8;
      return code * f16ToNumber(view.getUint16(scales + (r * groups * 2 + (c >> 5)) * 2, true));
    }),
  );
}

/** Rounds a row of numbers and puts it into a matrix's bytes. */
export function encode(tensor: Tensor, bytes: Uint8Array, row: number, values: number[]): void {
  const { groups, stride, scales } = places(tensor);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const padded = [...values, ...new Array(groups * 64 - values.length).fill(0)];
  if (tensor.dtype === "int8") {
    const { codes, scale } = round127(padded);
    view.setFloat32(scales + row * 4, scale, true);
    codes.forEach((code, c) => {
      view.setInt8(row * stride + c, code);
    });
    return;
  }
  const blocks = blocksOf(padded).map(bestOf);
  blocks.forEach(({ scale }, b) => {
    view.setUint16(scales + (row * groups * 2 + b) * 2, numberToF16(scale), true);
  });
  for (const g of upTo(groups))
    for (const j of upTo(32)) {
      const [low, high] = [blocks[2 * g]!.codes[j]!, blocks[2 * g + 1]!.codes[j]!];
      view.setUint8(row * stride + g * 32 + j, low + 8 + (high + 8) * 16);
    }
}

/** Codes from -127 to 127 for one scale. */
function round127(values: number[]): { codes: number[]; scale: number } {
  const most = Math.max(...values.map(Math.abs));
  const inverse = fround(127 / most);
  if (inverse === Infinity) return { codes: values.map(() => 0), scale: 0 };
  return { codes: values.map((v) => even(fround(v * inverse))), scale: fround(most / 127) };
}

/** The scale of least squared error among those that contract.ts lists for a block of int4. */
function bestOf(block: number[]): { codes: number[]; scale: number; error: number } {
  const most = Math.max(...block.map(Math.abs));
  const largest = block.find((v) => Math.abs(v) === most)!;
  const tried = int4Divisors.map((divisor) => {
    const signed = f16ToNumber(numberToF16(fround(largest / divisor)));
    const scale = signed === 0 ? 0 : signed;
    const codes = block.map((v) => (scale === 0 ? 0 : Math.min(7, Math.max(-8, even(fround(v / scale))))));
    const squares = block.map((v, i) => fround(fround(v - fround(codes[i]! * scale)) ** 2));
    return { codes, scale, error: squares.reduce((sum, square) => fround(sum + square), 0) };
  });
  return tried.reduce((best, one) => (one.error < best.error ? one : best));
}

/** The numbers that a row of weights becomes in a quantized dtype. */
export function roundedRow(row: number[], dtype: "int8" | "int4"): number[] {
  const { codes, scale } = round127(row);
  if (dtype === "int8") return codes.map((code) => code * scale);
  return blocksOf(row).flatMap((block) => {
    const best = bestOf(block);
    return best.codes.map((code) => code * best.scale);
  });
}

/** What a row becomes that is multiplied by quantized weights. */
export function roundedInBlocks(x: number[]): number[] {
  return blocksOf(x).flatMap((block) => {
    if (!block.every(Number.isFinite)) return block.map(() => Number.NaN);
    const { codes, scale } = round127(block);
    return codes.map((code) => code * scale);
  });
}

/** Quantized matrices once more, as formulas: what their bytes mean, and which bytes stand for a row of numbers. */
import { f16ToNumber, numberToF16 } from "../../src/tensor/dtype.ts";
import { int4Divisors } from "../../src/tensor/quantized.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { upTo } from "../helpers/up-to.ts";

const { fround } = Math;
/** The block of a column: 16 for every 512 columns; in turn, each takes four that follow each other. */
export const blockOf = (c: number): number => (c >> 9) * 16 + ((c >> 2) & 15);
const blockCount = (columns: number): number => Math.ceil(columns / 512) * 16;
const blocksOf = (values: number[]): number[][] =>
  upTo(blockCount(values.length)).map((b) => values.filter((_, c) => blockOf(c) === b));

/** To the nearest integer, ties to the even one. */
function even(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return below + (rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? 1 : 0);
}

/** Bytes of a row's codes, and where the scales of all rows start. */
function places({ dtype, shape }: Tensor) {
  const [rows, columns] = shape as [number, number];
  const stride = Math.ceil(columns / (dtype === "int8" ? 64 : 128)) * 64;
  return { rows, columns, stride, blocks: blockCount(columns), scales: rows * stride };
}

/** The numbers that a matrix's bytes stand for, row by row. */
export function decode(tensor: Tensor, bytes: Uint8Array): number[] {
  const { rows, columns, blocks, stride, scales } = places(tensor);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return upTo(rows).flatMap((r) =>
    upTo(columns).map((c) => {
      if (tensor.dtype === "int8")
        return view.getInt8(r * stride + c) * view.getFloat32(scales + r * 4, true);
      const byte = view.getUint8(r * stride + (c >> 7) * 64 + (c & 63));
      const code = ((c & 127) < 64 ? byte & 15 : byte >> 4) - 8;
      return code * f16ToNumber(view.getUint16(scales + (r * blocks + blockOf(c)) * 2, true));
    }),
  );
}

/** Rounds a row of numbers and puts it into a matrix's bytes. */
export function encode(tensor: Tensor, bytes: Uint8Array, row: number, values: number[]): void {
  const { stride, scales } = places(tensor);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const padding = tensor.dtype === "int8" ? stride : blockCount(values.length) * 32;
  const padded = [...values, ...new Array(padding - values.length).fill(0)];
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
    view.setUint16(scales + (row * blocks.length + b) * 2, numberToF16(scale), true);
  });
  /** The code of a column: its block's columns are four of every 64. */
  const codeOf = (c: number) => blocks[blockOf(c)]!.codes[((c & 511) >> 6) * 4 + (c & 3)]! + 8;
  for (const byte of upTo(stride)) {
    const c = (byte >> 6) * 128 + (byte & 63);
    view.setUint8(row * stride + byte, codeOf(c) + codeOf(c + 64) * 16);
  }
}

/** What `each` makes of every block's numbers, in the order of the columns. */
function inBlocks(values: number[], each: (block: number[]) => number[]): number[] {
  const made = blocksOf(values).map((block) => (block.length > 0 ? each(block) : []));
  return values.map((_, c) => made[blockOf(c)]!.shift()!);
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
  return inBlocks(row, (block) => {
    const best = bestOf(block);
    return best.codes.map((code) => code * best.scale);
  });
}

/** What a row becomes that is multiplied by quantized weights. */
export function roundedInBlocks(x: number[]): number[] {
  return inBlocks(x, (block) => {
    if (!block.every(Number.isFinite)) return block.map(() => Number.NaN);
    const { codes, scale } = round127(block);
    return codes.map((code) => code * scale);
  });
}

/**
 * Quantized matrices from seeds and the native command list itself: the checks of the ops' callers are not under test
 * here. Matrices are kept beside what they stand for, as plain numbers.
 */
import { opcode, recoveryColumns } from "../../src/kernels/native/addon-types.ts";
import { loadAddon } from "../../src/kernels/native/binding.ts";
import { CommandList } from "../../src/kernels/native/command-list.ts";
import type { InstructionSet } from "../../src/kernels/native/native.ts";
import type { NativeTensor } from "../../src/kernels/native/tensor.ts";
import {
  type FloatDtype,
  f16ToNumber,
  fromFloat32,
  numberToF16,
  type QuantizedDtype,
  toFloat32,
  type WeightDtype,
} from "../../src/tensor/dtype.ts";
import { int4Divisors, quantizedLayout } from "../../src/tensor/quantized.ts";
import { upTo } from "../helpers/up-to.ts";
import { blockOf } from "./float64-quantized.ts";
import { Lab } from "./lab.ts";

export type Matrix = number[][];
export interface Units {
  rows: number[][];
  shared: boolean;
  words: [indices: NativeTensor, counts: NativeTensor];
}
interface Held {
  tensor: NativeTensor;
  values: Matrix;
  /** A scale for each block of a row of int4, or one for a row of int8. */
  scales?: Matrix;
}

/**
 * What a sum over `rows` of a · weight may lose in a column where the factors (a times scale) of up to eight rows together,
 * or sixteen rows of int4 with AMX, are rounded: of each factor half a 127th of the largest, with int8 half a 16256th.
 */
export function factorRounding(
  instructionSet: InstructionSet,
  rows: readonly number[],
  a: readonly number[],
  weight: Matrix,
  scales: Matrix,
): (column: number) => number {
  const isInt8 = scales.every((row) => row.length === 1);
  const together = instructionSet === "amx" && !isInt8 ? 16 : 8;
  const step = 0.5001 / (isInt8 ? 127 * 128 : 127);
  // By block: of each row its factor, and the largest of those that are rounded with it.
  const blocks = new Map<number, { readonly factor: number; readonly most: number }[]>();
  const make = (block: number) => {
    const factors = rows.map((i) => Math.abs(a[i]! * scales[i]![block]!));
    return factors.map((factor, at) => {
      const first = at - (at % together);
      return { factor, most: Math.max(...factors.slice(first, first + together)) };
    });
  };
  return (column) => {
    const block = isInt8 ? 0 : blockOf(column);
    const made = blocks.get(block) ?? make(block);
    blocks.set(block, made);
    return rows.reduce((total, i, at) => {
      const { factor, most } = made[at]!;
      const code = factor === 0 ? 8 : Math.abs((a[i]! * weight[i]![column]!) / factor);
      return total + step * most * code;
    }, 0);
  };
}

export class Bench {
  readonly #list: CommandList;
  readonly #numbers: Lab;

  constructor(instructionSet: InstructionSet, threads: number, seed: number) {
    this.#list = new CommandList(loadAddon(), instructionSet, threads, true);
    this.#numbers = new Lab(null as never, seed);
  }

  dispose(): void {
    this.#list.dispose();
  }

  /** Random numbers in [−1, 1), changed by `each`. */
  floats(
    rows: number,
    columns: number,
    each = (v: number, _i: number) => v,
    dtype: FloatDtype = "f32",
  ): Held {
    const values = new Float32Array(rows * columns);
    for (let i = 0; i < values.length; i++) values[i] = each(this.#numbers.next() * 2 - 1, i);
    const tensor = this.#list.allocate(dtype, rows === 1 && dtype === "f32" ? [1, columns] : [rows, columns]);
    const stored = fromFloat32(dtype, values);
    tensor.view.set(stored);
    const wide = toFloat32(dtype, stored);
    return {
      tensor,
      values: upTo(rows).map((r) => Array.from(wide.subarray(r * columns, (r + 1) * columns))),
    };
  }

  zeros(rows: number, columns: number): Held {
    return this.floats(rows, columns, () => 0);
  }

  integers(values: ArrayLike<number>, rows = 1): NativeTensor {
    const tensor = this.#list.allocate("i32", [rows, values.length / rows]);
    tensor.view.set(Int32Array.from(values));
    return tensor;
  }

  /** Codes and scales at random; the padding is what the layout says. */
  quantized(type: QuantizedDtype, rows: number, columns: number): Required<Held> {
    const tensor = this.#list.allocate(type, [rows, columns]);
    const bytes = tensor.view as Uint8Array;
    const { codeStride, scaleOffset, scaleStride } = quantizedLayout(type, rows, columns);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const allScales: Matrix = [];
    const values = upTo(rows).map((r) => {
      const low = type === "int8" ? -127 : -8;
      const codes = upTo(columns).map(
        () => low + Math.floor(this.#numbers.next() * (type === "int8" ? 255 : 16)),
      );
      if (type === "int8") {
        const scale = Math.fround((this.#numbers.next() + 0.1) / 127);
        view.setFloat32(scaleOffset + r * scaleStride, scale, true);
        codes.forEach((code, c) => {
          view.setInt8(r * codeStride + c, code);
        });
        allScales.push([scale]);
        return codes.map((code) => code * scale);
      }
      bytes.fill(0x88, r * codeStride, (r + 1) * codeStride);
      const scales = upTo(Math.ceil(columns / 512) * 16).map((b) => {
        const bits = numberToF16((this.#numbers.next() - 0.5) / 4);
        view.setUint16(scaleOffset + r * scaleStride + 2 * b, bits, true);
        return f16ToNumber(bits);
      });
      allScales.push(scales);
      codes.forEach((code, c) => {
        const at = r * codeStride + Math.floor(c / 128) * 64 + (c % 64);
        const shift = c % 128 < 64 ? 0 : 4;
        bytes[at] = (bytes[at]! & (shift ? 0x0f : 0xf0)) | ((code + 8) << shift);
      });
      return codes.map((code, c) => code * scales[blockOf(c)]!);
    });
    return { tensor, values, scales: allScales };
  }

  set(units: number, rows: number, fill: string): Units | null {
    if (fill === "none") return null;
    const shared = fill.startsWith("shared");
    const listed = upTo(shared ? 1 : rows).map(() => {
      const share = fill === "empty" ? 0 : fill.endsWith("full") ? 1 : this.#numbers.next();
      return upTo(units).filter(() => this.#numbers.next() < share);
    });
    const indices = new Int32Array(listed.length * units).fill(-7);
    listed.forEach((list, r) => {
      indices.set(list, r * units);
    });
    const counts = this.integers(listed.map((list) => list.length));
    return { rows: listed, shared, words: [this.integers(indices, listed.length), counts] };
  }

  product(
    out: Held,
    x: Held,
    weight: Held,
    bias: Held | null,
    relu: boolean,
    set: Units | null,
    perUnit: number,
    rows: number,
  ): void {
    const list = this.#list
      .begin(opcode.product)
      .tensor(out.tensor)
      .word(0)
      .tensor(x.tensor)
      .tensor(weight.tensor);
    list
      .tensor(bias?.tensor ?? null)
      .word(relu ? 1 : 0)
      .word(perUnit)
      .word(rows);
    this.#endWithSet(list, set);
  }

  accumulate(
    out: Held,
    a: Held,
    weight: Held,
    bias: Held | null,
    set: Units | null,
    perUnit: number,
    rows: number,
  ): void {
    const list = this.#list
      .begin(opcode.accumulate)
      .tensor(out.tensor)
      .tensor(a.tensor)
      .tensor(weight.tensor);
    list
      .tensor(bias?.tensor ?? null)
      .word(perUnit)
      .word(rows);
    this.#endWithSet(list, set);
  }

  embedding(out: Held, table: Held, ids: number[]): void {
    const picked = this.integers(ids);
    const list = this.#list.begin(opcode.embedding).tensor(out.tensor).tensor(table.tensor);
    list.tensor(picked).word(ids.length).end();
  }

  addRows(out: Held, table: Held, ids: number[], offset: number): void {
    const picked = this.integers(ids);
    const list = this.#list.begin(opcode.addRows).tensor(out.tensor).tensor(table.tensor);
    list.tensor(picked).word(offset).word(ids.length).end();
  }

  convert(out: Held, outRow: number, x: Held, xRow: number, rows: number): void {
    const list = this.#list.begin(opcode.convert).tensor(out.tensor).word(outRow);
    list.tensor(x.tensor).word(xRow).word(rows).end();
    this.#list.flush();
  }

  /** All positions of one sequence, of which none is in the cache yet. */
  recover(
    keys: Held,
    values: Held,
    x: Held,
    keyWeight: Held,
    keyBias: Held,
    valueWeight: Held,
    headDim: number,
    rows: number,
  ): void {
    const [width, d] = [keys.values[0]!.length, x.values[0]!.length];
    const inputs = this.zeros(rows, recoveryColumns(keyWeight.tensor.dtype as WeightDtype, d));
    const filled = this.integers(new Array(width / headDim).fill(0));
    const [counts, sequences] = [
      this.integers(new Array(rows).fill(0)),
      this.integers(new Array(rows).fill(0)),
    ];
    const [positions, pages] = [this.integers(upTo(rows)), this.integers([0])];
    const list = this.#list.begin(opcode.recover).tensor(keys.tensor).tensor(values.tensor).tensor(x.tensor);
    list
      .tensor(keyWeight.tensor)
      .tensor(keyBias.tensor)
      .tensor(valueWeight.tensor)
      .tensor(null)
      .word(headDim);
    list.tensor(inputs.tensor).tensor(filled).word(rows).tensor(counts).word(0).word(rows);
    list.tensor(sequences).tensor(positions).tensor(pages).word(rows);
    this.#endWithSet(list, null);
  }

  read(held: Held): number[] {
    this.#list.flush();
    return [...held.tensor.view];
  }

  /** The bytes of codes and of scales of some rows. */
  rows(held: Held, first: number, count: number): number[][] {
    this.#list.flush();
    const { dtype, shape, view } = held.tensor;
    const layout = quantizedLayout(dtype as QuantizedDtype, shape[0]!, shape[1]!);
    const part = (start: number, stride: number) => [
      ...view.subarray(start + first * stride, start + (first + count) * stride),
    ];
    return [part(0, layout.codeStride), part(layout.scaleOffset, layout.scaleStride)];
  }

  /** What `rows` should give for these values. */
  encode(type: QuantizedDtype, values: Matrix): number[][] {
    const columns = values[0]!.length;
    const { codeStride, scaleStride } = quantizedLayout(type, 1, columns);
    const codes: number[] = [];
    const scales: number[] = [];
    for (const row of values) {
      const bytes = new Uint8Array(codeStride);
      const view = new DataView(new ArrayBuffer(scaleStride));
      const padded = [...row, ...new Array(Math.ceil(columns / 512) * 512 - columns).fill(0)];
      if (type === "int8") {
        const most = Math.max(...row.map(Math.abs));
        const inverse = Math.fround(127 / most);
        view.setFloat32(0, Math.fround(most / 127), true);
        if (most > 0)
          row.forEach((v, c) => {
            bytes[c] = toEven(Math.fround(v * inverse));
          });
      } else {
        for (let block = 0; block < scaleStride / 2; block++) {
          const own = upTo(padded.length).filter((c) => blockOf(c) === block);
          const { bits, codes } = bestOfBlock(own.map((c) => padded[c]));
          view.setUint16(block * 2, bits, true);
          own.forEach((c, i) => {
            const at = Math.floor(c / 128) * 64 + (c % 64);
            if (at < codeStride) bytes[at]! |= codes[i]! << (c % 128 < 64 ? 0 : 4);
          });
        }
      }
      codes.push(...bytes);
      scales.push(...new Uint8Array(view.buffer));
    }
    return [codes, scales];
  }

  /** x converted to a narrower type, as bits. */
  narrowed(x: Held, dtype: "f16" | "bf16"): number[] {
    const out = this.floats(x.values.length, x.values[0]!.length, () => 0, dtype);
    this.convert(out, 0, x, 0, x.values.length);
    return this.read(out);
  }

  nearest(x: Held, dtype: "f16" | "bf16"): number[] {
    return [...fromFloat32(dtype, Float32Array.from(x.values.flat()))];
  }

  #endWithSet(list: CommandList, set: Units | null): void {
    if (set)
      list
        .tensor(set.words[0])
        .tensor(set.words[1])
        .word(0)
        .word(set.shared ? 1 : 0);
    else list.word(-1).word(-1).word(0).word(0);
    list.end();
    this.#list.flush();
  }
}

function toEven(v: number): number {
  const down = Math.floor(v);
  if (v - down !== 0.5) return Math.round(v);
  return down % 2 === 0 ? down : down + 1;
}
/** Codes and scale of a block of int4: of the scales tried, the one that leaves the least squared error in float32. */
function bestOfBlock(block: readonly number[]): { bits: number; codes: number[] } {
  const f = Math.fround;
  const most = Math.max(...block.map(Math.abs));
  const value = block.find((v) => Math.abs(v) === most)!;
  const tried = int4Divisors.map((divisor) => {
    const bits =
      numberToF16(f(value / divisor)) & (f16ToNumber(numberToF16(f(value / divisor))) === 0 ? 0 : 0xffff);
    const scale = f16ToNumber(bits);
    const codes = block.map((v) => (scale === 0 ? 8 : Math.min(15, Math.max(0, toEven(f(v / scale)) + 8))));
    const error = codes.reduce((sum, code, i) => {
      const difference = f(block[i]! - f((code - 8) * scale));
      return f(sum + f(difference * difference));
    }, 0);
    return { bits, codes, error };
  });
  return tried.reduce((best, one) => (one.error < best.error ? one : best));
}

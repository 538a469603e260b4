/** The whole binary surface: what native/addon.cc exports and the numbers that its command list is made of. */
import { type Dtype, isQuantized } from "../../tensor/dtype.ts";
import { partBlocks, partColumns } from "../../tensor/quantized.ts";
import type { Activation, Kernels } from "../contract.ts";

/** Raised with every change of this file or of native/; a binary with another number is refused. */
export const surfaceVersion = 9;

/** From the most to the least that a machine may offer. */
export const instructionSets = ["amx", "avx512vnni", "avx512", "avx2", "neon", "portable"] as const;
export type InstructionSet = (typeof instructionSets)[number];

/** The numbers of `Dtype` in native/kernels/table.h. */
export const dtypeNumber: Readonly<Record<Dtype, number>> = {
  f32: 0,
  f16: 1,
  bf16: 2,
  i32: 3,
  u8: 4,
  int8: 5,
  int4: 6,
};

/** For quantized weights a row of `PreparedPart` of native/kernels/table.h: a byte for each column, two numbers for each block. */
export const recoveryColumns: Kernels["recoveryColumns"] = (weight, d) =>
  isQuantized(weight) ? Math.ceil(d / partColumns) * (partColumns / 4 + 2 * partBlocks) : d;

export const activationNumber: Readonly<Record<Activation, number>> = { none: 0, relu: 1 };

/** The numbers of `Opcode` in native/queue.h. */
export const opcode = {
  embedding: 0,
  addRows: 1,
  copyRows: 2,
  transpose: 3,
  layerNorm: 4,
  product: 5,
  accumulate: 6,
  storeRows: 7,
  attention: 8,
  recover: 9,
  unitNorms: 10,
  selectTopK: 11,
  selectThreshold: 12,
  refine: 13,
  unite: 14,
  logSoftmax: 15,
  argmax: 16,
  mark: 17,
  startProfile: 18,
  fork: 19,
  join: 20,
  convert: 21,
  screen: 22,
} as const;

export interface Addon {
  readonly surfaceVersion: number;
  /** What this machine can run, best first. */
  readonly instructionSets: InstructionSet[];
  /** A part of a file as memory, read when it is used; absent where the system, null where the host cannot do it. */
  readonly mapFile?: (path: string, offset: number, bytes: number) => ArrayBuffer | null;
  /** Zeros in large pages, aligned to 64 bytes; absent where the system, null where the host cannot do it. */
  readonly largeMemory?: (bytes: number) => ArrayBuffer | null;
  readonly Engine: new (
    instructionSet: InstructionSet,
    threads: number,
    commands: Int32Array,
    hugePages: boolean,
  ) => Engine;
}

/** The tensors, threads and command list of one backend. Every method throws after `dispose`. */
export interface Engine {
  /**
   * Registers a matrix [rows, columns] of `bytes` bytes within `buffer`, which has room to align it to 64 bytes, and
   * returns its number. Its offset in the buffer is written to word 0 of the command list.
   * @param isOurs the memory is this matrix's alone: it is made present, unless it is large and in large pages
   */
  add(
    buffer: ArrayBuffer,
    bytes: number,
    dtype: number,
    rows: number,
    columns: number,
    isOurs: boolean,
  ): number;
  remove(tensor: number): void;
  /** Executes the first `length` words of the command list. */
  run(length: number): void;
  /** Seconds per phase, in the order of `phases`. */
  seconds(): Float64Array;
  /** Bytes per second that all threads read together, over passes of `bytes` for at least `seconds`. */
  readBandwidth(bytes: number, seconds: number): number;
  dispose(): void;
}

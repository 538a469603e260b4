/** Matrices of random weights in any format, filled as fast as memory is written. */
import type { Kernels } from "../kernels/contract.ts";
import { fromFloat32, isQuantized, numberToF16, type WeightDtype } from "../tensor/dtype.ts";
import { quantizedLayout } from "../tensor/quantized.ts";
import { byteLength, type Tensor } from "../tensor/tensor.ts";

/** Every matrix repeats this much of random bytes, from a place of its own on. */
const patternBytes = 1 << 20;
/** A uniform distribution over ± this has variance 1. */
const unitRange = Math.sqrt(3);

export class RandomWeights {
  readonly #kernels: Kernels;
  readonly #next: () => number;
  readonly #patterns = new Map<string, Uint8Array>();
  /** Everything made so far. */
  readonly made: Tensor[] = [];

  /** @param next random numbers in [0, 1) */
  constructor(kernels: Kernels, next: () => number) {
    this.#kernels = kernels;
    this.#next = next;
  }

  /** [rows, columns] of mean 0 and variance 1 / columns, so that products keep the size of what they are given. */
  async matrix(dtype: WeightDtype, rows: number, columns: number): Promise<Tensor> {
    const tensor = this.#allocate(dtype, rows, columns);
    const pattern = this.#pattern(dtype, columns);
    const shift = Math.floor(this.#next() * (patternBytes / 64)) * 64;
    await this.#kernels.upload(tensor, (bytes) => {
      const end = isQuantized(dtype) ? quantizedLayout(dtype, rows, columns).scaleOffset : bytes.length;
      for (let at = 0; at < end; ) {
        const from = (shift + at) % patternBytes;
        const some = pattern.subarray(from, from + Math.min(patternBytes - from, end - at));
        bytes.set(some, at);
        at += some.length;
      }
      const scales = bytes.subarray(end);
      const scale = unitRange / Math.sqrt(columns);
      if (dtype === "int8") new Float32Array(scales.buffer, scales.byteOffset, rows).fill(scale / 127);
      if (dtype === "int4")
        new Uint16Array(scales.buffer, scales.byteOffset, scales.length / 2).fill(numberToF16(scale / 7.5));
    });
    return tensor;
  }

  /** f32 [length], all of one value. */
  vector(length: number, value: number): Tensor {
    const tensor = this.#allocate("f32", length);
    this.#kernels.write(tensor, new Float32Array(length).fill(value));
    return tensor;
  }

  /** Bytes of everything made so far. */
  get bytes(): number {
    return this.made.reduce((sum, tensor) => sum + byteLength(tensor), 0);
  }

  #allocate(dtype: WeightDtype, ...shape: number[]): Tensor {
    const tensor = this.#kernels.allocate(dtype, shape);
    this.made.push(tensor);
    return tensor;
  }

  #pattern(dtype: WeightDtype, columns: number): Uint8Array {
    const key = isQuantized(dtype) ? dtype : `${dtype} ${columns}`;
    let pattern = this.#patterns.get(key);
    if (pattern === undefined) {
      pattern = new Uint8Array(patternBytes);
      if (isQuantized(dtype))
        for (let i = 0; i < patternBytes; i++) pattern[i] = Math.floor(this.#next() * 256);
      else {
        const range = (2 * unitRange) / Math.sqrt(columns);
        const values = Float32Array.from({ length: patternBytes / 4 }, () => (this.#next() - 0.5) * range);
        const stored = fromFloat32(dtype, values);
        const bytes = new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
        for (let at = 0; at < patternBytes; at += bytes.length) pattern.set(bytes, at);
      }
      this.#patterns.set(key, pattern);
    }
    return pattern;
  }
}

/**
 * Random bytes for weights, as fast as a disk takes them: pieces of a pool that is filled once. Speed does not depend on
 * the values, as long as none of them is infinite or subnormal.
 */

const poolBytes = 4 * 2 ** 20;
/** Odd, so that the rows of a matrix do not all start at the same place of the pool. */
const stride = 1_000_003;

/** mulberry32: a 32-bit generator; the same seed gives the same checkpoint. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

/** Writes one record of `bytes.length` bytes from 32 random bits a call. */
export type FillRecord = (record: DataView, next: () => number) => void;

/** Endless random records of `recordBytes` bytes each. */
export class RandomRecords {
  readonly #pool: Buffer;
  readonly #recordBytes: number;
  #place = 0;

  constructor(recordBytes: number, fill: FillRecord, seed = 1) {
    const records = Math.floor(poolBytes / recordBytes);
    this.#pool = Buffer.alloc(records * recordBytes);
    this.#recordBytes = recordBytes;
    const next = generator(seed);
    for (let i = 0; i < records; i++)
      fill(new DataView(this.#pool.buffer, this.#pool.byteOffset + i * recordBytes, recordBytes), next);
  }

  /** Pieces that are `records` records together. They are views: use each before the next is asked for. */
  *take(records: number): Generator<Buffer> {
    const inPool = this.#pool.length / this.#recordBytes;
    for (let left = records; left > 0; ) {
      const count = Math.min(left, inPool - this.#place);
      yield this.#pool.subarray(this.#place * this.#recordBytes, (this.#place + count) * this.#recordBytes);
      left -= count;
      this.#place = (this.#place + stride) % inPool;
    }
  }
}

/** A half-precision number with magnitude from 2^exponent to twice that, sign at random; bits from `random`. */
export function randomHalf(random: number, exponent: number): number {
  return ((random & 1) << 15) | ((exponent + 15) << 10) | ((random >>> 1) & 0x3ff);
}

/** Seeded random numbers: xoshiro128**, whose 128 bits of state come from the seed by splitmix32. Not for secrets. */

export interface Rng {
  /** A multiple of 2^-53 in [0, 1). */
  next(): number;
  /** An integer in [0, n), each equally likely. Throws a RangeError unless n is an integer from 1 to 2^32. */
  nextInt(n: number): number;
  /** An integer in [0, 2^32). */
  nextUint32(): number;
}

/**
 * The same seed gives the same sequence, on every machine.
 * @param seed an integer from 0 to 2^53 − 1; throws a RangeError for others
 */
export function createRng(seed: number): Rng {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new RangeError(`seed ${seed} is not an integer from 0 on`);
  return new Xoshiro128(seed);
}

class Xoshiro128 implements Rng {
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    // Mixing is one-to-one, so that words 0 and 2 alone tell any two seeds apart.
    const low = seed % 2 ** 32;
    const high = mix(Math.floor(seed / 2 ** 32));
    for (let i = 0; i < 4; i++) {
      const counter = low + Math.imul(i + 1, 0x9e3779b9);
      this.#state[i] = mix((i < 2 ? counter : counter + high) | 0);
    }
    if (this.#state.every((word) => word === 0)) this.#state[0] = 1; // the one state that never changes
  }

  nextUint32(): number {
    const state = this.#state;
    const result = Math.imul(rotateLeft(Math.imul(state[1]!, 5), 7), 9) >>> 0;
    const shifted = state[1]! << 9;
    state[2]! ^= state[0]!;
    state[3]! ^= state[1]!;
    state[1]! ^= state[2]!;
    state[0]! ^= state[3]!;
    state[2]! ^= shifted;
    state[3] = rotateLeft(state[3]!, 11);
    return result;
  }

  next(): number {
    const high = this.nextUint32() >>> 5;
    const low = this.nextUint32() >>> 6;
    return (high * 2 ** 26 + low) * 2 ** -53;
  }

  nextInt(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32)
      throw new RangeError(`${n} is not an integer from 1 to 2^32`);
    // Draws from an incomplete last round of n would favour small results.
    const end = 2 ** 32 - (2 ** 32 % n);
    let drawn = this.nextUint32();
    while (drawn >= end) drawn = this.nextUint32();
    return drawn % n;
  }
}

function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

/** The output function of splitmix32: every bit of the input changes about half of the output's. */
function mix(word: number): number {
  let mixed = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

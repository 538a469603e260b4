/** Logits → the next id. */
import { resolveSampling, type Sampling, type SamplingOptions } from "./options.ts";
import { Ranking } from "./ranking.ts";
import { createRng, type Rng } from "./rng.ts";

export { resolveSampling, type Sampling, type SamplingOptions } from "./options.ts";

export interface Sampler {
  /** What was asked for, with the seed in use. */
  readonly sampling: Sampling;
  /** True if `next` is the argmax of the logits, whatever the history: then they need not be copied to the host. */
  readonly isArgmax: boolean;
  /** `next` depends only on the so many largest logits (the lower id first of equals); infinity: on all. */
  readonly needed: number;
  /**
   * Chooses an id. Nothing is allocated, and `logits` stays as it is.
   *
   * Steps, in the order of Hugging Face's: repetition penalty (a positive logit is divided by it, a negative one
   * multiplied, once for each id in the history) → temperature → top-k → top-p (of what top-k left) → min-p.
   * (llama.cpp applies the temperature last: its top-p and min-p see the probabilities at temperature 1.)
   * Of equal logits the lower id ranks first, so top-k keeps exactly k.
   *
   * A NaN or −∞ is never chosen while there is anything else; of several +∞ each is equally likely. If no logit is
   * above −∞, the id is 0, as it is for the kernels' argmax.
   * @param logits f32 [vocabSize]
   * @param history ids before this one, the prompt's included; ids outside the vocabulary are ignored
   * @throws RangeError if there are not `vocabSize` logits
   */
  next(logits: Float32Array, history: ArrayLike<number>): number;
}

/** Throws a UsageError for options out of range. */
export function createSampler(options: SamplingOptions, vocabSize: number): Sampler {
  return new LogitSampler(resolveSampling(options), vocabSize);
}

class LogitSampler implements Sampler {
  readonly sampling: Sampling;
  readonly isArgmax: boolean;
  readonly needed: number;
  readonly #vocabSize: number;
  readonly #penalty: Penalty | null;
  readonly #draw: Draw | null;

  constructor(sampling: Sampling, vocabSize: number) {
    this.sampling = sampling;
    this.#vocabSize = vocabSize;
    this.#penalty =
      sampling.repetitionPenalty === 1 ? null : new Penalty(sampling.repetitionPenalty, vocabSize);
    this.#draw = sampling.kind === "greedy" ? null : new Draw(sampling, vocabSize);
    this.isArgmax = this.#penalty === null && this.#draw === null;
    // A penalty may bring any logit down, so that one below it becomes the largest.
    const all = Number.POSITIVE_INFINITY;
    if (this.#penalty !== null) this.needed = all;
    else this.needed = sampling.kind === "greedy" ? 1 : (sampling.topK ?? all);
  }

  next(logits: Float32Array, history: ArrayLike<number>): number {
    if (logits.length !== this.#vocabSize) {
      throw new RangeError(`${logits.length} logits for a vocabulary of ${this.#vocabSize}`);
    }
    const values = this.#penalty === null ? logits : this.#penalty.apply(logits, history);
    const best = argmax(values);
    if (this.#draw === null || !(values[best]! > Number.NEGATIVE_INFINITY)) return best;
    return this.#draw.next(values, values[best]!);
  }
}

/** Index of the largest value, the first of equals; 0 if none is above −∞. The rule of the kernels' argmax. */
function argmax(values: Float32Array): number {
  let best = 0;
  let largest = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < values.length; id++) {
    const value = values[id]!;
    if (value > largest) {
      best = id;
      largest = value;
    }
  }
  return best;
}

class Penalty {
  readonly #penalty: number;
  readonly #values: Float32Array;

  constructor(penalty: number, vocabSize: number) {
    this.#penalty = penalty;
    this.#values = new Float32Array(vocabSize);
  }

  /** A copy of the logits, valid until the next call. An id that comes again starts from its logit again. */
  apply(logits: Float32Array, history: ArrayLike<number>): Float32Array {
    this.#values.set(logits);
    for (let i = 0; i < history.length; i++) {
      const id = history[i]!;
      const logit = logits[id];
      if (logit === undefined) continue;
      this.#values[id] = logit > 0 ? logit / this.#penalty : logit * this.#penalty;
    }
    return this.#values;
  }
}

/** Draws one of the tokens that temperature, top-k, top-p and min-p leave. */
class Draw {
  readonly #options: Sampling & { kind: "sample" };
  readonly #rng: Rng;
  /** Probability of each id, relative to that of the most probable; only those of candidates are valid. */
  readonly #weights: Float64Array;
  /** The first so many are the ids in question. */
  readonly #candidates: Int32Array;
  readonly #ranking: Ranking;

  constructor(options: Sampling & { kind: "sample" }, vocabSize: number) {
    this.#options = options;
    this.#rng = createRng(options.seed);
    this.#weights = new Float64Array(vocabSize);
    this.#candidates = new Int32Array(vocabSize);
    this.#ranking = new Ranking(vocabSize);
  }

  /** @param largest the largest value, above −∞ */
  next(values: Float32Array, largest: number): number {
    const { topP, minP = 0 } = this.#options;
    // Min-p commutes with top-k, but not with top-p, which counts what min-p excludes.
    const count = this.#weigh(values, largest, topP === undefined ? minP : 0);
    return this.#pick(this.#keepBest(values, count));
  }

  /** Makes candidates of the ids with a weight above 0, from `least` on, in ascending order; returns their number. */
  #weigh(values: Float32Array, largest: number, least: number): number {
    const { temperature } = this.#options;
    let count = 0;
    for (let id = 0; id < values.length; id++) {
      const value = values[id]!;
      const weight = value === largest ? 1 : Math.exp((value - largest) / temperature);
      if (!(weight > 0) || weight < least) continue;
      this.#weights[id] = weight;
      this.#candidates[count++] = id;
    }
    return count;
  }

  /** Cuts `count` candidates down to those that top-k, top-p and min-p leave; returns their number. */
  #keepBest(values: Float32Array, count: number): number {
    const { topK = count, topP } = this.#options;
    if (topK < count) {
      this.#ranking.fill(this.#candidates, count, values);
      for (let i = 0; i < topK; i++) this.#candidates[i] = this.#ranking.take();
      return this.#cut(topK, topK, topP === undefined ? Number.POSITIVE_INFINITY : topP * this.#sum(topK));
    }
    if (topP === undefined) return count;
    const total = this.#sum(count);
    // Tokens that even all together cannot make up 1 − topP are certain to be cut, and need not be ranked.
    const possible = this.#dropBelow(count, ((1 - topP) * total) / count);
    this.#ranking.fill(this.#candidates, possible, values);
    return this.#cut(possible, 0, topP * total);
  }

  /**
   * Keeps the best candidates until their weights sum to `enough`, or fall below min-p; one at least.
   * The first `taken` are in order already, the others are taken from the ranking.
   */
  #cut(count: number, taken: number, enough: number): number {
    const { minP = 0 } = this.#options;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const id = i < taken ? this.#candidates[i]! : this.#ranking.take();
      if (i > 0 && (sum >= enough || this.#weights[id]! < minP)) return i;
      this.#candidates[i] = id;
      sum += this.#weights[id]!;
    }
    return count;
  }

  #dropBelow(count: number, least: number): number {
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const id = this.#candidates[i]!;
      if (this.#weights[id]! >= least) this.#candidates[kept++] = id;
    }
    return kept;
  }

  #pick(count: number): number {
    let rest = this.#rng.next() * this.#sum(count);
    for (let i = 0; i < count; i++) {
      const id = this.#candidates[i]!;
      rest -= this.#weights[id]!;
      if (rest < 0) return id;
    }
    return this.#candidates[count - 1]!; // rounding left a little
  }

  #sum(count: number): number {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += this.#weights[this.#candidates[i]!]!;
    return sum;
  }
}

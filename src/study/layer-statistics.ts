/** What a layer's tensors, block of rows by block of rows, add up to. */
import { quantile } from "../util/quantile.ts";
import { addUnit, type Bits, cosine, emptySet, jaccard, size } from "./math.ts";
import type { LayerSimilarity, LayerSparsity } from "./schema.ts";

/** One layer's tensors for the rows of one forward. */
export interface LayerRows {
  readonly rows: number;
  readonly attentionInput: Float32Array; // [rows, hidden_size]
  readonly mlpInput: Float32Array; // [rows, hidden_size]
  readonly headNorm: Float32Array; // [rows, heads]
  readonly sets: readonly Bits[]; // [rows] true neuron sets
}

/** The true sets of rows of activations [rows, units]: what came out of the ReLU above zero. */
export function trueSets(activations: Float32Array, rows: number, units: number): Bits[] {
  return Array.from({ length: rows }, (_, r) => {
    const set = emptySet(units);
    for (let i = 0; i < units; i++) if (activations[r * units + i]! > 0) addUnit(set, i);
    return set;
  });
}

/** A mean that grows. */
class Mean {
  #sum = 0;
  #count = 0;

  add(value: number): void {
    this.#sum += value;
    this.#count += 1;
  }

  get value(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }
}

export class LayerStatistics {
  readonly #layer: number;
  readonly #units: number;
  readonly #sizes: number[] = [];
  readonly #ever: Bits;
  readonly #headShares: Mean[];
  readonly #nextBlock = new Mean();
  readonly #halfBlock = new Mean();
  readonly #nextToken = new Mean();
  #previous: Bits | null = null;

  constructor(layer: number, units: number, heads: number) {
    this.#layer = layer;
    this.#units = units;
    this.#ever = emptySet(units);
    this.#headShares = Array.from({ length: heads }, () => new Mean());
  }

  /** A new document begins: its first token follows no other. */
  begin(): void {
    this.#previous = null;
  }

  /** @param next attention-input of the block after; null after the last block */
  add(data: LayerRows, next: Float32Array | null): void {
    const width = data.attentionInput.length / data.rows;
    for (const [r, set] of data.sets.entries()) {
      this.#addSet(set);
      this.#addHeads(data.headNorm, r);
      this.#halfBlock.add(cosine(data.attentionInput, data.mlpInput, r * width, width));
      if (next !== null) this.#nextBlock.add(cosine(data.attentionInput, next, r * width, width));
    }
  }

  sparsity(): LayerSparsity {
    const sorted = this.#sizes.toSorted((a, b) => a - b);
    const at = (q: number) => quantile(sorted, q) / this.#units;
    return {
      layer: this.#layer,
      mean: sorted.reduce((sum, n) => sum + n, 0) / sorted.length / this.#units,
      p5: at(0.05),
      p25: at(0.25),
      median: at(0.5),
      p75: at(0.75),
      p95: at(0.95),
      neverActive: 1 - size(this.#ever) / this.#units,
      headShares: this.#headShares.map(({ value }) => value),
    };
  }

  /** @param anyTokens overlap of tokens from different documents, which only the samples of all documents show */
  similarity(isLast: boolean, anyTokens: number): LayerSimilarity {
    return {
      layer: this.#layer,
      nextBlock: isLast ? null : this.#nextBlock.value,
      halfBlock: this.#halfBlock.value,
      nextToken: this.#nextToken.value,
      anyTokens,
    };
  }

  #addSet(set: Bits): void {
    this.#sizes.push(size(set));
    for (let w = 0; w < set.length; w++) this.#ever[w]! |= set[w]!;
    if (this.#previous !== null) this.#nextToken.add(jaccard(this.#previous, set));
    this.#previous = set;
  }

  #addHeads(norms: Float32Array, row: number): void {
    const heads = this.#headShares.length;
    const sorted = norms.slice(row * heads, (row + 1) * heads).sort((a, b) => b - a);
    const total = sorted.reduce((sum, norm) => sum + norm, 0);
    for (const [rank, norm] of sorted.entries())
      this.#headShares[rank]!.add(total > 0 ? norm / total : 1 / heads);
  }
}

/**
 * Byte-pair merging of one long word in O(n log n) time and typed arrays. It gives what the tokenizer library gives
 * (the lowest rank first, the leftmost of equals), which is quicker on short words but takes minutes, and gigabytes,
 * on one of ten million characters.
 */
import { byteCharacters } from "./byte-level.ts";

/** Pairs are queued as one number: rank · positions + position. Word length and number of merges stay below 2^26. */
const positions = 2 ** 26;

interface Merge {
  readonly rank: number;
  readonly product: number;
}

export class WordMerger {
  readonly #idOfCharacter: ReadonlyMap<string, number>;
  readonly #tokens: readonly string[];
  readonly #merges = new Map<number, Merge>();

  /**
   * @param tokens the token of each id
   * @param idOf the id of each token; holds every token of the merges, their products, and the 256 byte characters
   * @param merges pairs of tokens, by rank
   */
  constructor(
    tokens: readonly string[],
    idOf: ReadonlyMap<string, number>,
    merges: readonly (readonly [string, string])[],
  ) {
    this.#tokens = tokens;
    this.#idOfCharacter = new Map(byteCharacters.map((char) => [char, idOf.get(char)!]));
    for (const [rank, [left, right]] of merges.entries()) {
      this.#merges.set(this.#pair(idOf.get(left)!, idOf.get(right)!), {
        rank,
        product: idOf.get(left + right)!,
      });
    }
  }

  /** The tokens of a word that is spelled in byte characters. */
  merge(word: string): string[] {
    const ids = Int32Array.from(word, (char) => this.#idOfCharacter.get(char)!);
    const count = ids.length;
    const next = Int32Array.from(ids, (_, i) => i + 1);
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const queue = new MinQueue(count);
    const enqueue = (left: number): void => {
      const right = left < 0 ? count : next[left]!;
      if (right >= count) return;
      const merge = this.#merges.get(this.#pair(ids[left]!, ids[right]!));
      if (merge !== undefined) queue.push(merge.rank * positions + left);
    };
    for (let i = 0; i < count - 1; i++) enqueue(i);
    for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
      const left = key % positions;
      const right = next[left]!;
      if (ids[left]! < 0 || right >= count) continue; // merged away since it was queued
      const merge = this.#merges.get(this.#pair(ids[left]!, ids[right]!));
      if (merge === undefined || merge.rank !== Math.floor(key / positions)) continue;
      ids[left] = merge.product;
      ids[right] = -1;
      next[left] = next[right]!;
      if (next[left]! < count) previous[next[left]!] = left;
      enqueue(previous[left]!);
      enqueue(left);
    }
    return Array.from(
      ids.filter((id) => id >= 0),
      (id) => this.#tokens[id]!,
    );
  }

  #pair(left: number, right: number): number {
    return left * this.#tokens.length + right;
  }
}

/** A binary heap of numbers. */
class MinQueue {
  #heap: Float64Array;
  #size = 0;

  constructor(capacity: number) {
    this.#heap = new Float64Array(capacity + 1);
  }

  push(key: number): void {
    if (this.#size === this.#heap.length) {
      const larger = new Float64Array(2 * this.#size);
      larger.set(this.#heap);
      this.#heap = larger;
    }
    const heap = this.#heap;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]! <= key) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = key;
  }

  pop(): number | undefined {
    if (this.#size === 0) return undefined;
    const heap = this.#heap;
    const least = heap[0]!;
    const key = heap[--this.#size]!;
    let at = 0;
    for (let child = 1; child < this.#size; child = 2 * at + 1) {
      if (child + 1 < this.#size && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= key) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = key;
    return least;
  }
}

/** Ids in descending order of their values, as many as are asked for: the rest is never sorted. */
export class Ranking {
  readonly #heap: Int32Array;
  #values: Float32Array = new Float32Array(0);
  #size = 0;

  /** @param capacity the most ids there can be */
  constructor(capacity: number) {
    this.#heap = new Int32Array(capacity);
  }

  /**
   * Starts anew with the first `count` of `ids`, in time proportional to their number.
   * @param values by id; must hold no NaN for these ids, and must not change while ids are taken
   */
  fill(ids: Int32Array, count: number, values: Float32Array): void {
    this.#heap.set(ids.subarray(0, count));
    this.#values = values;
    this.#size = count;
    for (let at = (count >> 1) - 1; at >= 0; at--) this.#sink(at);
  }

  /** Removes and returns the id of the largest value, the lowest of equals; −1 if none is left. */
  take(): number {
    if (this.#size === 0) return -1;
    const first = this.#heap[0]!;
    this.#heap[0] = this.#heap[--this.#size]!;
    this.#sink(0);
    return first;
  }

  #sink(start: number): void {
    const heap = this.#heap;
    const size = this.#size;
    const id = heap[start]!;
    let at = start;
    for (let child = 2 * at + 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && this.#precedes(heap[child + 1]!, heap[child]!)) child++;
      if (!this.#precedes(heap[child]!, id)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = id;
  }

  #precedes(a: number, b: number): boolean {
    const difference = this.#values[a]! - this.#values[b]!;
    return difference > 0 || (difference === 0 && a < b);
  }
}

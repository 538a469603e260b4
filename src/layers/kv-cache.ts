/**
 * Keys and values of several sequences, in pages: memory is handed out as sequences grow and taken back when they end,
 * so that long and short ones share it. A single sequence has one page as long as itself.
 */
import type { Kernels, Placement, Recovery } from "../kernels/contract.ts";
import type { ActiveSets } from "../sparsity/active-set.ts";
import { byteLength, type Tensor } from "../tensor/tensor.ts";

export const cacheDtypes = ["f32", "f16"] as const;
export type CacheDtype = (typeof cacheDtypes)[number];

export interface CacheShape {
  readonly layers: number;
  /** heads · headDim of keys and values. */
  readonly kvWidth: number;
  /** Of keys and values. */
  readonly dtype: CacheDtype;
  /** Of the inputs that skipped heads keep: what `recover` wants for the model's weights. */
  readonly inputColumns: number;
  readonly heads: number;
  /** Sequences at a time. */
  readonly sequences: number;
  /** Positions of one sequence. */
  readonly capacity: number;
  /** Positions of all sequences together; default: each may reach its capacity. */
  readonly totalPositions?: number | undefined;
  readonly maxRows: number;
  /** Skipped heads keep inputs and catch up later; all of them after every `refresh` positions (default: never). */
  readonly recover?: { readonly refresh?: number | undefined } | undefined;
}

/** Positions of a page when sequences share the cache. */
const sharedPageRows = 32;

export class KvCache {
  readonly keys: readonly Tensor[]; // [layers] of [cacheRows, kvWidth]
  readonly values: readonly Tensor[]; // [layers] of [cacheRows, kvWidth]
  readonly placement: Placement;
  /** Per layer, in `recover` mode; null where keys and values of all heads are always computed. */
  readonly recovery: readonly Recovery[] | null;
  /** Number of tokens of each sequence. */
  readonly positions: Int32Array; // [sequences]
  readonly #shape: CacheShape;
  readonly #kernels: Kernels;
  readonly #pages: Int32Array; // [sequences, maxPages]
  readonly #freePages: number[];
  /** Pages that the rows being placed are the first to need; kept, so that placing a token allocates nothing. */
  readonly #wanted: number[] = [];
  readonly #rowSequences: Int32Array;
  readonly #rowPositions: Int32Array;
  readonly #owned: Tensor[] = [];

  constructor(kernels: Kernels, shape: CacheShape, sets: ActiveSets) {
    const { layers, kvWidth, dtype, sequences, capacity, maxRows } = shape;
    const pageRows = sequences === 1 ? capacity : Math.min(sharedPageRows, capacity);
    const maxPages = Math.ceil(capacity / pageRows);
    const total = shape.totalPositions ?? sequences * capacity;
    // The last page of a sequence may be almost empty, so each sequence but one gets a page on top of its share.
    const pageCount = Math.min(sequences * maxPages, Math.ceil(total / pageRows) + sequences - 1);
    const make = (type: CacheDtype | "i32", ...extents: number[]): Tensor => {
      const tensor = kernels.allocate(type, extents);
      this.#owned.push(tensor);
      return tensor;
    };
    const cache = () => Array.from({ length: layers }, () => make(dtype, pageCount * pageRows, kvWidth));
    this.#kernels = kernels;
    this.#shape = shape;
    this.keys = cache();
    this.values = cache();
    this.placement = {
      sequences: make("i32", maxRows),
      positions: make("i32", maxRows),
      pages: make("i32", sequences, maxPages),
      pageRows,
    };
    this.positions = new Int32Array(sequences);
    this.#pages = new Int32Array(sequences * maxPages).fill(-1);
    this.#freePages = Array.from({ length: pageCount }, (_, i) => pageCount - 1 - i);
    this.#rowSequences = new Int32Array(maxRows);
    this.#rowPositions = new Int32Array(maxRows);
    this.recovery = shape.recover ? this.#makeRecovery(shape.recover.refresh, sets, make) : null;
  }

  /**
   * Gives the next `rows` ids of a forward their places: each follows the tokens its sequence has.
   * @param sequenceOf sequence of each row; null: all are of sequence 0
   * @throws RangeError, before anything changes, when a sequence or the memory is full
   */
  place(rows: number, sequenceOf: Int32Array | null): void {
    const { capacity, sequences } = this.#shape;
    const { pageRows } = this.placement;
    const maxPages = this.#pages.length / sequences;
    const wanted = this.#wanted;
    wanted.length = 0;
    for (let r = 0; r < rows; r++) {
      const s = sequenceOf ? sequenceOf[r]! : 0;
      let position = this.positions[s] ?? Number.NaN;
      for (let earlier = 0; earlier < r; earlier++) if (this.#rowSequences[earlier] === s) position++;
      if (!(position < capacity)) throw new RangeError(`sequence ${s} is full: its capacity is ${capacity}`);
      this.#rowSequences[r] = s;
      this.#rowPositions[r] = position;
      const page = s * maxPages + Math.floor(position / pageRows);
      if (this.#pages[page] === -1 && !wanted.includes(page)) wanted.push(page);
    }
    if (wanted.length > this.#freePages.length)
      throw new RangeError(`the cache is full: ${this.keys[0]!.shape[0]} positions are taken`);
    for (const page of wanted) this.#pages[page] = this.#freePages.pop()!;
    for (let r = 0; r < rows; r++) this.positions[this.#rowSequences[r]!]! += 1;
    if (wanted.length > 0)
      this.#kernels.write(
        this.placement.pages,
        this.#pages.map((page) => Math.max(page, 0)),
      );
    this.#kernels.write(this.placement.sequences, this.#rowSequences);
    this.#kernels.write(this.placement.positions, this.#rowPositions);
  }

  /** Position that `place` gave to a row. */
  positionOf(row: number): number {
    return this.#rowPositions[row]!;
  }

  /** Forgets a sequence; its memory is free for others. */
  clear(sequence: number): void {
    const maxPages = this.#pages.length / this.#shape.sequences;
    for (let page = sequence * maxPages; page < (sequence + 1) * maxPages; page++) {
      if (this.#pages[page] === -1) continue;
      this.#freePages.push(this.#pages[page]!);
      this.#pages[page] = -1;
    }
    this.positions[sequence] = 0;
    const none = new Int32Array(this.#shape.heads);
    for (const { filled } of this.recovery ?? [])
      this.#kernels.write(filled, none, sequence * this.#shape.heads);
  }

  /** Bytes of keys, values and kept inputs. */
  get bytes(): number {
    return this.#owned.reduce((sum, tensor) => sum + byteLength(tensor), 0);
  }

  free(): void {
    for (const tensor of this.#owned) this.#kernels.free(tensor);
  }

  #makeRecovery(
    refresh: number | undefined,
    sets: ActiveSets,
    make: (dtype: "f32" | "i32", ...extents: number[]) => Tensor,
  ): Recovery[] {
    const { layers, sequences, capacity, heads, inputColumns } = this.#shape;
    // With a refresh only so many inputs can still be owed; without, all of them.
    const window = Math.min(refresh ?? capacity, capacity);
    return Array.from({ length: layers }, (_, layer) => ({
      inputs: make("f32", sequences * window, inputColumns),
      filled: make("i32", sequences, heads),
      refresh: window,
      counts: sets.counts,
      slot: sets.at("recovered", layer).slot,
    }));
  }
}

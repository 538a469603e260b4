/**
 * Several requests decoded together: every step is one forward with one row per running sequence, so that a weight row
 * is read once for all of them. Requests may join and leave between any two steps. Neurons are the union of what the
 * sequences select; heads are each sequence's own.
 */
import { type Chooser, createChooser } from "./choose.ts";
import type { Engine } from "./load.ts";
import { blockRows, feed, promptRows } from "./models/feed.ts";
import type { ModelState } from "./models/model.ts";
import { type FinishReason, type RequestOptions, Sequence } from "./sequence.ts";
import { denseSelector } from "./sparsity/dense.ts";
import type { Selector } from "./sparsity/selector.ts";
import { Tally } from "./sparsity/tally.ts";
import { createBreather } from "./util/breathe.ts";
import { UsageError } from "./util/errors.ts";

export interface BatchOptions {
  /** Sequences that run at a time, at most 64; further ones wait. */
  maxSequences: number;
  /** Default dense. Prompts are always computed densely. */
  selector?: Selector | undefined;
  /** Positions of the longest sequence; default: the model's context. */
  capacity?: number | undefined;
  /** Positions of all running sequences together; default: each may reach the capacity. */
  totalPositions?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** One token of one request, or the news that it ended. */
export interface BatchToken {
  /** Number of the request, in the order of `add`. */
  readonly index: number;
  readonly id: number;
  readonly text: string;
  /** Null while the request goes on. */
  readonly finishReason: FinishReason | null;
}

interface Running {
  readonly index: number;
  readonly slot: number;
  readonly sequence: Sequence;
}

export class Batch {
  /** Of all tokens decoded so far: densities are of the union for neurons, of each sequence for heads. */
  readonly tally: Tally;
  decodeSeconds = 0;
  readonly #engine: Engine;
  readonly #selector: Selector;
  readonly #options: BatchOptions & { readonly capacity: number; readonly totalPositions: number };
  readonly #state: ModelState;
  readonly #chooser: Chooser;
  readonly #waiting: { index: number; sequence: Sequence }[] = [];
  readonly #running: Running[] = [];
  readonly #freeSlots: number[];
  readonly #breathe: () => Promise<void> | undefined;
  #added = 0;

  /** @throws UsageError for sizes that make no sense */
  constructor(engine: Engine, options: BatchOptions) {
    const { maxSequences, selector = denseSelector, signal } = options;
    const capacity = options.capacity ?? engine.model.shape.maxPositions;
    const totalPositions = options.totalPositions ?? maxSequences * capacity;
    if (!Number.isInteger(maxSequences) || maxSequences < 1 || maxSequences > blockRows)
      throw new UsageError(`max sequences is ${maxSequences}; it must be an integer from 1 to ${blockRows}`);
    this.#engine = engine;
    this.#selector = selector;
    this.#options = { ...options, capacity, totalPositions };
    this.#state = engine.model.createState({
      capacity,
      maxRows: promptRows,
      sequences: maxSequences,
      totalPositions,
      attention: selector.attention,
    });
    this.#chooser = createChooser(engine, this.#state);
    this.tally = new Tally(this.#state.sets);
    this.#freeSlots = Array.from({ length: maxSequences }, (_, i) => maxSequences - 1 - i);
    this.#breathe = createBreather(signal);
  }

  /** Requests that have not ended. */
  get pending(): number {
    return this.#waiting.length + this.#running.length;
  }

  /**
   * Takes a request; it joins at the next step that has room.
   * @returns its number
   * @throws UsageError, ContextOverflowError for a request that can never run
   */
  add(request: RequestOptions): number {
    const sequence = new Sequence(this.#engine, request);
    const { capacity, totalPositions } = this.#options;
    const limit = Math.min(capacity, totalPositions);
    if (sequence.capacity > limit)
      throw new UsageError(
        `the request needs ${sequence.capacity} positions; this batch gives a sequence ${limit}`,
      );
    this.#waiting.push({ index: this.#added, sequence });
    return this.#added++;
  }

  /** Ends a request, wherever it is; what it has generated so far stays with the caller. */
  cancel(index: number): void {
    const waiting = this.#waiting.findIndex((entry) => entry.index === index);
    if (waiting >= 0) this.#waiting.splice(waiting, 1);
    const running = this.#running.find((entry) => entry.index === index);
    if (running !== undefined) this.#leave(running);
  }

  /** One token for every running sequence, and the first one of those that join. */
  async step(): Promise<BatchToken[]> {
    const tokens: BatchToken[] = [];
    const decoding = [...this.#running];
    if (decoding.length > 0) await this.#decode(decoding, tokens);
    while (this.#freeSlots.length > 0 && this.#waiting.length > 0 && this.#hasRoom())
      await this.#join(tokens);
    await this.#breathe();
    return tokens;
  }

  dispose(): void {
    this.#chooser.dispose();
    this.#state.dispose();
  }

  async #decode(running: readonly Running[], tokens: BatchToken[]): Promise<void> {
    const { model, kernels } = this.#engine;
    const started = performance.now();
    const ids = Int32Array.from(running, ({ sequence }) => sequence.lastId);
    const slots = Int32Array.from(running, ({ slot }) => slot);
    const sequences = running.map(({ sequence }) => sequence);
    this.#chooser.announce(sequences);
    model.forward(this.#state, ids, this.#selector, "all", slots);
    const next = await this.#chooser.choose(sequences);
    await this.tally.add(kernels, running.length);
    this.decodeSeconds += (performance.now() - started) / 1000;
    for (const [row, entry] of running.entries()) this.#accept(entry, next[row]!, tokens);
  }

  /** Whether the memory suffices for the next request to run to its end beside those that run. */
  #hasRoom(): boolean {
    const needs = [...this.#running, this.#waiting[0]!].map(({ sequence }) => sequence.capacity);
    return needs.reduce((a, b) => a + b, 0) <= this.#options.totalPositions;
  }

  async #join(tokens: BatchToken[]): Promise<void> {
    const { index, sequence } = this.#waiting.shift()!;
    const entry = { index, slot: this.#freeSlots.pop()!, sequence };
    this.#running.push(entry);
    const { model } = this.#engine;
    const { signal } = this.#options;
    const prompt = Int32Array.from(sequence.promptIds);
    this.#chooser.announce([sequence]);
    await feed(model, this.#state, prompt, denseSelector, "last", { sequence: entry.slot, signal });
    const [id] = await this.#chooser.choose([sequence]);
    this.#accept(entry, id!, tokens);
  }

  #accept(entry: Running, id: number, tokens: BatchToken[]): void {
    const { index, sequence } = entry;
    const token = sequence.accept(id);
    const isOver = sequence.finishReason !== null;
    const rest = isOver ? (sequence.flush()?.text ?? "") : "";
    tokens.push({ index, id, text: (token?.text ?? "") + rest, finishReason: sequence.finishReason });
    if (isOver) this.#leave(entry);
  }

  #leave(entry: Running): void {
    this.#running.splice(this.#running.indexOf(entry), 1);
    this.#state.clear(entry.slot);
    this.#freeSlots.push(entry.slot);
  }
}

/** Decodes all requests together and yields their tokens as they come. */
export async function* generateBatch(
  engine: Engine,
  requests: readonly RequestOptions[],
  options: BatchOptions,
): AsyncGenerator<BatchToken, void, void> {
  const batch = new Batch(engine, options);
  try {
    for (const request of requests) batch.add(request);
    while (batch.pending > 0) yield* await batch.step();
  } finally {
    batch.dispose();
  }
}

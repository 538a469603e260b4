/** The dense model, which runs beside whatever is measured against it. */
import type { Engine } from "../load.ts";
import { blockRows } from "../models/feed.ts";
import type { ModelState } from "../models/model.ts";
import { denseSelector } from "../sparsity/dense.ts";

/** Room for what scoring the same documents again and again may keep: 512 MB. */
export const roomToKeep = 2 ** 29;

/** Log probabilities of a document [ids, vocab]; its blocks come one after the other. */
interface Kept {
  readonly values: Float32Array;
  isComplete: boolean;
}

export class DenseModel {
  /** Tokens run so far. */
  tokens = 0;
  readonly #engine: Engine;
  readonly #state: ModelState;
  readonly #block: Float32Array; // [blockRows, vocab]
  readonly #kept = new Map<Int32Array, Kept>();
  #room: number;

  /**
   * @param capacity ids of the longest document
   * @param room bytes for what is kept of documents, arrays of ids that never change, for the next time that they come;
   * those that do not fit are run again
   */
  constructor(engine: Engine, capacity: number, room = 0) {
    this.#engine = engine;
    this.#state = engine.model.createState({ capacity, maxRows: blockRows });
    this.#block = new Float32Array(blockRows * engine.model.shape.vocabSize);
    this.#room = room;
  }

  /**
   * Log probabilities after each of `rows` ids of a document, from `start` on: [rows, vocab], valid until the next call.
   * The blocks of a document are asked for in order.
   */
  async logProbabilities(ids: Int32Array, start: number, rows: number): Promise<Float32Array> {
    const { vocabSize } = this.#engine.model.shape;
    const kept = this.#kept.get(ids) ?? this.#keep(ids);
    const block = kept
      ? kept.values.subarray(start * vocabSize, (start + rows) * vocabSize)
      : this.#block.subarray(0, rows * vocabSize);
    if (kept?.isComplete) return block;
    await this.#run(ids, start, rows, block);
    if (kept) kept.isComplete = start + rows === ids.length;
    return block;
  }

  dispose(): void {
    this.#state.dispose();
  }

  #keep(ids: Int32Array): Kept | null {
    const floats = ids.length * this.#engine.model.shape.vocabSize;
    const bytes = floats * Float32Array.BYTES_PER_ELEMENT;
    if (bytes > this.#room) return null;
    this.#room -= bytes;
    const kept = { values: new Float32Array(floats), isComplete: false };
    this.#kept.set(ids, kept);
    return kept;
  }

  async #run(ids: Int32Array, start: number, rows: number, into: Float32Array): Promise<void> {
    const { model, kernels } = this.#engine;
    const { logits } = this.#state;
    if (start === 0) this.#state.clear();
    model.forward(this.#state, ids.subarray(start, start + rows), denseSelector, "all");
    kernels.logSoftmax(logits, logits, rows);
    await kernels.read(logits, into);
    this.tokens += rows;
  }
}

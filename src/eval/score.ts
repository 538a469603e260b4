/** Scores documents: perplexity under a selector, and how far it strays from the dense model. */
import type { Engine } from "../load.ts";
import { blockRows, feed } from "../models/feed.ts";
import type { ModelState } from "../models/model.ts";
import type { Selector } from "../sparsity/selector.ts";
import { Tally } from "../sparsity/tally.ts";
import { type BytesPerToken, bytesPerToken } from "./bytes.ts";
import { DenseModel } from "./dense-model.ts";
import { countIds } from "./documents.ts";
import { type Fidelity, MeasuringSelector, type UnitFidelity } from "./measure.ts";

/**
 * The protocol: ids start with the beginning-of-sequence id, which is not scored; every document is scored alone, in a
 * window of max_position_embeddings ids; every position runs under the selector.
 */
export interface Score {
  readonly selector: Selector["kind"];
  readonly documents: number;
  readonly scoredIds: number;
  /** exp of the mean negative log likelihood per scored id. */
  readonly perplexity: number;
  readonly densePerplexity: number;
  /** Mean over scored positions of KL(dense ‖ selector), in nats. */
  readonly kl: number;
  /** Share of scored positions where the most likely id is the dense model's. */
  readonly top1Agreement: number;
  readonly mlp: Fidelity;
  readonly heads: Fidelity;
  /** The same, layer by layer. */
  readonly layers: readonly UnitFidelity[];
  readonly bytesPerToken: BytesPerToken;
  /** Negative log likelihood of each document under the selector, in nats. */
  readonly nllPerDocument: readonly number[];
  /** Share of neurons above zero per layer. */
  readonly activeNeuronShare: readonly number[];
}

export interface ScoreOptions {
  onProgress?: ((ids: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** The dense model to run beside, for who scores the same documents again; it stays the caller's. */
  dense?: DenseModel | undefined;
}

interface Comparison {
  nll: number;
  denseNll: number;
  kl: number;
  agreements: number;
}

/** Adds up one row: log probabilities under the selector (`p`) and dense (`q`), of `vocab` ids from `start` on. */
function compareRow(
  p: Float32Array,
  q: Float32Array,
  start: number,
  vocab: number,
  target: number,
  sums: Comparison,
) {
  let kl = 0;
  let [best, denseBest] = [start, start];
  for (let i = start; i < start + vocab; i++) {
    const dense = q[i]!;
    kl += Math.exp(dense) * (dense - p[i]!);
    if (dense > q[denseBest]!) denseBest = i;
    if (p[i]! > p[best]!) best = i;
  }
  sums.kl += kl;
  sums.nll -= p[start + target]!;
  sums.denseNll -= q[start + target]!;
  if (best === denseBest) sums.agreements += 1;
}

/** Runs documents with recovery, to count how many heads catch up. */
class RecoveryCount {
  readonly tally: Tally;
  readonly #engine: Engine;
  readonly #selector: Selector;
  readonly #state: ModelState;

  constructor(engine: Engine, selector: Selector, capacity: number) {
    this.#engine = engine;
    this.#selector = selector;
    const { attention } = selector;
    this.#state = engine.model.createState({ capacity, maxRows: blockRows, attention });
    this.tally = new Tally(this.#state.sets);
  }

  async add(ids: Int32Array, signal: AbortSignal | undefined): Promise<void> {
    const { model, kernels } = this.#engine;
    const afterBlock = (_start: number, rows: number) => this.tally.add(kernels, rows);
    this.#state.clear();
    await feed(model, this.#state, ids, this.#selector, "none", { afterBlock, signal });
  }

  dispose(): void {
    this.#state.dispose();
  }
}

/**
 * Scores documents under `selector`, running the dense model beside it on the same ids.
 * @param documents ids of each document, at most max_position_embeddings of them
 */
export async function score(
  engine: Engine,
  documents: readonly Int32Array[],
  selector: Selector,
  options: ScoreOptions = {},
): Promise<Score> {
  const { model, kernels } = engine;
  const { vocabSize, layers, maxPositions } = model.shape;
  const longest = documents.reduce((max, ids) => Math.max(max, ids.length), 1);
  const capacity = Math.min(longest, maxPositions);
  // Recovered keys and values are the ones computed at once, and measuring computes them all: so quality is taken with
  // all of them, and what recovery reads is counted in a run of its own.
  const state = model.createState({ capacity, maxRows: blockRows });
  const recovering =
    selector.attention.attention === "recover" ? new RecoveryCount(engine, selector, capacity) : null;
  const dense = options.dense ?? new DenseModel(engine, capacity);
  const measured = new MeasuringSelector(kernels, selector, model.shape);
  const tally = new Tally(state.sets);
  const p = new Float32Array(state.maxRows * vocabSize);
  const sums: Comparison = { nll: 0, denseNll: 0, kl: 0, agreements: 0 };
  const nllPerDocument: number[] = [];
  const total = countIds(documents);
  let done = 0;

  try {
    for (const ids of documents) {
      const before = sums.nll;
      state.clear();
      const afterBlock = async (start: number, rows: number): Promise<void> => {
        kernels.logSoftmax(state.logits, state.logits, rows);
        await kernels.read(state.logits, p.subarray(0, rows * vocabSize));
        await tally.add(kernels, rows);
        await measured.add(state, rows);
        const q = await dense.logProbabilities(ids, start, rows);
        for (let r = 0; r < rows; r++) {
          const target = ids[start + r + 1];
          if (target !== undefined) compareRow(p, q, r * vocabSize, vocabSize, target, sums);
        }
        done += rows;
        options.onProgress?.(done, total);
      };
      await feed(model, state, ids, measured, "all", { afterBlock, signal: options.signal });
      await recovering?.add(ids, options.signal);
      nllPerDocument.push(sums.nll - before);
    }
    const scoredIds = total - documents.length;
    return {
      selector: selector.kind,
      documents: documents.length,
      scoredIds,
      perplexity: Math.exp(sums.nll / scoredIds),
      densePerplexity: Math.exp(sums.denseNll / scoredIds),
      kl: sums.kl / scoredIds,
      top1Agreement: sums.agreements / scoredIds,
      ...measured.result(state, tally),
      bytesPerToken: bytesPerToken(model, selector, recovering?.tally ?? tally),
      nllPerDocument,
      activeNeuronShare: Array.from({ length: layers }, (_, layer) => measured.trueDensity(layer)),
    };
  } finally {
    measured.dispose();
    recovering?.dispose();
    state.dispose();
    if (options.dense === undefined) dense.dispose();
  }
}

/** What moves while sequences run through OPT: cache, scratch, sets. */
import type { Kernels, Recording } from "../kernels/contract.ts";
import { Block, type BlockBuffers } from "../layers/block.ts";
import { computeAll } from "../layers/compute-all.ts";
import { type CacheDtype, KvCache } from "../layers/kv-cache.ts";
import { ActiveSets } from "../sparsity/active-set.ts";
import type { Selector } from "../sparsity/selector.ts";
import type { WeightDtype } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { ModelShape, ModelState, Outputs, StateOptions } from "./model.ts";
import type { OptConfig } from "./opt-config.ts";

/** What decides which ops a forward calls, and those ops. */
interface Repeatable {
  readonly selector: Selector;
  readonly rows: number;
  readonly outputs: Outputs;
  readonly neededLogits: number;
  readonly recording: Recording;
}

/** Buffers and cache. Allocated once; a forward allocates nothing. */
export class OptState implements ModelState {
  readonly maxRows: number;
  readonly sets: ActiveSets;
  readonly cache: KvCache;
  readonly block: Block;
  readonly ids: Tensor; // i32 [maxRows]
  readonly embedded: Tensor; // f32 [maxRows, word_embed_proj_dim]
  readonly final: Tensor; // f32 [maxRows, hidden_size]
  readonly last: Tensor; // f32 [1, hidden_size]
  readonly projected: Tensor; // f32 [maxRows, word_embed_proj_dim]
  readonly logits: Tensor; // f32 [maxRows, vocab_size]
  readonly approximate: Tensor | null; // f32 [maxRows, vocab_size], where words are screened
  neededLogits = Number.POSITIVE_INFINITY;
  readonly buffers: BlockBuffers;
  readonly #kernels: Kernels;
  readonly #owned: Tensor[] = [];
  /** The ops of the last forward. */
  #last: Repeatable | null = null;

  constructor(
    kernels: Kernels,
    config: OptConfig,
    shape: ModelShape,
    options: StateOptions & { weightDtype: WeightDtype; cacheDtype: CacheDtype; isScreened: boolean },
  ) {
    const { hiddenSize: d, ffnDim, vocabSize, layers, heads, headDim } = shape;
    const { capacity, maxRows, sequences = 1, attention, weightDtype, cacheDtype, isScreened } = options;
    const make = (...extents: number[]): Tensor => {
      const tensor = kernels.allocate("f32", extents);
      this.#owned.push(tensor);
      return tensor;
    };
    this.#kernels = kernels;
    this.maxRows = maxRows;
    this.ids = kernels.allocate("i32", [maxRows]);
    this.#owned.push(this.ids);
    this.embedded = make(maxRows, config.word_embed_proj_dim);
    this.projected = make(maxRows, config.word_embed_proj_dim);
    this.final = make(maxRows, d);
    this.last = make(1, d);
    this.logits = make(maxRows, vocabSize);
    this.approximate = isScreened ? make(maxRows, vocabSize) : null;
    this.buffers = {
      residual: make(maxRows, d),
      attentionInput: [make(maxRows, d), make(maxRows, d)],
      mlpInput: make(maxRows, d),
      query: make(maxRows, d),
      key: make(maxRows, d),
      value: make(maxRows, d),
      attended: make(maxRows, d),
      activations: make(maxRows, ffnDim),
      all: { attended: null, norms: null, activations: null },
    };
    this.sets = new ActiveSets(kernels, layers, heads, ffnDim, maxRows, isScreened ? vocabSize : 0);
    const recover = attention?.attention === "recover" ? { refresh: attention.refresh } : undefined;
    const { totalPositions } = options;
    const sizes = {
      layers,
      kvWidth: d,
      dtype: cacheDtype,
      inputColumns: kernels.recoveryColumns(weightDtype, d),
      heads,
      sequences,
      capacity,
      totalPositions,
      maxRows,
      recover,
    };
    this.cache = new KvCache(kernels, sizes, this.sets);
    this.block = new Block(kernels, headDim, this.buffers, this.sets, this.cache, sequences > 1, computeAll);
  }

  /** Does what the last forward did, on the tokens placed now; false, and nothing, if this one is another. */
  repeat(selector: Selector, rows: number, outputs: Outputs): boolean {
    const last = this.#last;
    if (last === null || last.selector !== selector || last.rows !== rows || last.outputs !== outputs)
      return false;
    return last.neededLogits === this.neededLogits && this.#kernels.replay(last.recording);
  }

  /** Calls the ops of a forward, and keeps them for `repeat` where the next one may call the same. */
  perform(selector: Selector, rows: number, outputs: Outputs, ops: () => void): void {
    this.#last = null;
    const { neededLogits } = this;
    if (!selector.repeats) ops();
    else {
      const recording = this.#kernels.record(ops);
      if (recording !== null) this.#last = { selector, rows, outputs, neededLogits, recording };
    }
  }

  get cacheBytes(): number {
    return this.cache.bytes;
  }

  position(sequence = 0): number {
    return this.cache.positions[sequence]!;
  }

  clear(sequence = 0): void {
    this.cache.clear(sequence);
  }

  dispose(): void {
    const { attended, norms, activations } = this.buffers.all;
    for (const tensor of [...this.#owned, attended, norms, activations])
      if (tensor !== null) this.#kernels.free(tensor);
    this.sets.free(this.#kernels);
    this.cache.free();
  }
}

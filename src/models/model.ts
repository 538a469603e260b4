/** What the program asks of any decoder-only model, whatever its architecture. */
import type { Kernels } from "../kernels/contract.ts";
import type { CacheDtype } from "../layers/kv-cache.ts";
import type { ActiveSets } from "../sparsity/active-set.ts";
import type { AttentionPolicy, Selector } from "../sparsity/selector.ts";
import type { WeightDtype } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** The sizes that selectors, predictors and reports need; names as in Hugging Face's configs. */
export interface ModelShape {
  readonly modelType: string;
  readonly layers: number; // num_hidden_layers
  readonly hiddenSize: number;
  readonly heads: number; // num_attention_heads
  readonly headDim: number;
  readonly ffnDim: number;
  readonly vocabSize: number;
  readonly maxPositions: number; // max_position_embeddings
}

/** Bytes of weights by the unit that decides whether they are read. */
export interface WeightBytes {
  /** Read for every token, whatever is selected: norms, biases, embedding rows. */
  readonly always: number;
  /** One word's row of the output layer. */
  readonly perWord: number;
  /** The approximate output layer, read instead where words are screened; 0 where they are not. */
  readonly screen: number;
  /** One head of one layer: its rows of Wq and of the transposed Wo. */
  readonly perHead: number;
  /** Its rows of Wk and Wv: read for every head in `dense-kv`, when it catches up in `recover`. */
  readonly perRecovered: number;
  /** One neuron's row of fc1. */
  readonly perNeuron: number;
  /** One neuron's row of the transposed fc2. */
  readonly perActive: number;
}

/** Everything that moves while sequences run: cache, scratch, sets. */
export interface ModelState {
  readonly maxRows: number;
  readonly sets: ActiveSets;
  /** f32 [maxRows, vocab_size]: of all rows of the last forward, or of its last row in row 0. */
  readonly logits: Tensor;
  /**
   * How many of the largest logits the next forward owes exactly, where `logits` may be −∞ for words that cannot be
   * among them; infinity: all. Set it before each forward; default infinity.
   */
  neededLogits: number;
  /** Bytes of the key/value cache, and of the inputs kept for recovery. */
  readonly cacheBytes: number;
  /** Number of tokens that a sequence has in the cache. */
  position(sequence?: number): number;
  /** Forgets a sequence; its cache memory is free for others. */
  clear(sequence?: number): void;
  dispose(): void;
}

export interface StateOptions {
  /** Positions of one sequence. */
  readonly capacity: number;
  /** Rows of the largest forward. */
  readonly maxRows: number;
  /** Sequences that share the cache; default 1. Where there are several, rows share the neurons that any selects. */
  readonly sequences?: number | undefined;
  /** Positions of all sequences together; default: each may reach its capacity. */
  readonly totalPositions?: number | undefined;
  /** Of keys and values. Default: f16, unless the weights are f32: what is kept is as wide as what made it. */
  readonly cacheDtype?: CacheDtype | undefined;
  /** What the selectors to come say of skipped heads; default `dense-kv`. */
  readonly attention?: AttentionPolicy | undefined;
}

/** The rows of a forward whose logits are wanted. */
export type Outputs = "last" | "all" | "none";

export interface Model {
  readonly shape: ModelShape;
  readonly kernels: Kernels;
  readonly parameters: number;
  /** Bytes of all weights in memory. */
  readonly bytes: number;
  readonly weightBytes: WeightBytes;
  /** Element type of the large matrices. */
  readonly dtype: WeightDtype;
  /** Of the embeddings and the output layer. */
  readonly tables: WeightDtype;
  /** fc1 of a layer: float [ffn_dim, hidden_size] and f32 [ffn_dim]; predictors of its neurons start from it. */
  neuronRows(layer: number): { readonly weight: Tensor; readonly bias: Tensor | null };
  /** @throws RangeError when `capacity` exceeds max_position_embeddings. */
  createState(options: StateOptions): ModelState;
  /**
   * Appends `ids` (at most maxRows) to the sequences and queues their computation.
   * @param outputs `last`: logits of the last id only, in row 0; `all`: of every id; `none`: no output layer.
   * @param sequences sequence of each id; default: all are of sequence 0
   * @throws RangeError, before anything changes, when a sequence or the cache is full
   */
  forward(
    state: ModelState,
    ids: Int32Array,
    selector: Selector,
    outputs: Outputs,
    sequences?: Int32Array,
  ): void;
  dispose(): void;
}

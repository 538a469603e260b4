/** What the program asks of any decoder-only model, whatever its architecture. */
import type { Kernels } from "../kernels/contract.ts";
import type { ActiveSets } from "../sparsity/active-set.ts";
import type { Selector } from "../sparsity/selector.ts";
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
  /** Read for every token, whatever is selected: keys, values, norms, biases, embedding rows, output layer. */
  readonly always: number;
  /** One head of one layer: its rows of Wq and of the transposed Wo. */
  readonly perHead: number;
  /** One neuron's row of fc1. */
  readonly perNeuron: number;
  /** One neuron's row of the transposed fc2. */
  readonly perActive: number;
}

/** Everything that moves while a sequence runs: cache, scratch, sets. */
export interface ModelState {
  readonly capacity: number;
  readonly maxRows: number;
  /** Number of tokens in the cache. */
  position: number;
  readonly sets: ActiveSets;
  /** f32 [maxRows, vocab_size]: of all rows of the last forward, or of its last row in row 0. */
  readonly logits: Tensor;
  dispose(): void;
}

export interface Model {
  readonly shape: ModelShape;
  readonly kernels: Kernels;
  readonly parameters: number;
  /** Bytes of all weights in memory. */
  readonly bytes: number;
  readonly weightBytes: WeightBytes;
  /** Element type of the large matrices. */
  readonly dtype: string;
  /** fc1 of a layer: float [ffn_dim, hidden_size] and f32 [ffn_dim]; predictors of its neurons start from it. */
  neuronRows(layer: number): { readonly weight: Tensor; readonly bias: Tensor | null };
  /** @throws RangeError when `capacity` exceeds max_position_embeddings. */
  createState(capacity: number, maxRows: number): ModelState;
  /**
   * Appends `ids` (at most maxRows, within capacity) to the sequence and queues their computation.
   * @param outputs `last`: logits of the last id only, in row 0; `all`: of every id; `none`: no output layer.
   */
  forward(state: ModelState, ids: Int32Array, selector: Selector, outputs: "last" | "all" | "none"): void;
  dispose(): void;
}

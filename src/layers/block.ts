/** What one transformer block works with: its place in the stack, its weights and the buffers that all blocks share. */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import type { ActiveSets } from "../sparsity/active-set.ts";
import type { BlockView, Source, UnitKind } from "../sparsity/selector.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { KvCache } from "./kv-cache.ts";

export interface Norm {
  readonly weight: Tensor | null; // f32 [hidden_size]
  readonly bias: Tensor | null; // f32 [hidden_size]
}

export interface Linear {
  /** float [out, in]; for the output projection and fc2 transposed, [in, out], so that a unit is a row. */
  readonly weight: Tensor;
  readonly bias: Tensor | null; // f32 [out]
}

export interface BlockWeights {
  readonly attentionNorm: Norm;
  readonly query: Linear; // [heads · headDim, hidden_size]
  readonly key: Linear; // [kvHeads · headDim, hidden_size]
  readonly value: Linear; // [kvHeads · headDim, hidden_size]
  readonly outputTransposed: Linear; // [heads · headDim, hidden_size]
  readonly mlpNorm: Norm;
  readonly fc1: Linear; // [ffn_dim, hidden_size]
  readonly fc2Transposed: Linear; // [ffn_dim, hidden_size]
}

/** Scratch shared by all blocks; every one f32 [maxRows, width]. */
export interface BlockBuffers {
  readonly residual: Tensor; // hidden_size: the residual stream
  readonly attentionInput: readonly [Tensor, Tensor]; // hidden_size: of the even and of the odd blocks
  readonly mlpInput: Tensor; // hidden_size
  readonly query: Tensor; // heads · headDim
  readonly key: Tensor; // kvHeads · headDim
  readonly value: Tensor; // kvHeads · headDim
  readonly attended: Tensor; // heads · headDim
  readonly activations: Tensor; // ffn_dim
  /** For oracles, which compute everything beside the sparse path; made when first asked for. */
  readonly all: { attended: Tensor | null; norms: Tensor | null; activations: Tensor | null };
}

/** How a block computes all its units for an oracle; handed in, because layers import this file. */
export interface ComputeAll {
  headNorms(block: Block): Tensor;
  activations(block: Block): Tensor;
}

/** The view of the running block; one object serves all blocks of a state. */
export class Block implements BlockView {
  layer = 0;
  rows = 0;
  weights!: BlockWeights;
  readonly kernels: Kernels;
  readonly headDim: number;
  readonly buffers: BlockBuffers;
  readonly sets: ActiveSets;
  readonly cache: KvCache;
  /** Rows are one token each of a batch of sequences: they share the neurons that any of them selects. */
  readonly unitesNeurons: boolean;
  readonly #computeAll: ComputeAll;
  #mlpInputReady = false;

  constructor(
    kernels: Kernels,
    headDim: number,
    buffers: BlockBuffers,
    sets: ActiveSets,
    cache: KvCache,
    unitesNeurons: boolean,
    computeAll: ComputeAll,
  ) {
    this.cache = cache;
    this.unitesNeurons = unitesNeurons;
    this.#computeAll = computeAll;
    this.kernels = kernels;
    this.headDim = headDim;
    this.buffers = buffers;
    this.sets = sets;
  }

  /** Moves on to block `layer`, whose inputs do not exist yet. */
  enter(layer: number, weights: BlockWeights): void {
    this.layer = layer;
    this.weights = weights;
    this.#mlpInputReady = false;
  }

  attentionInput(): Tensor {
    return this.buffers.attentionInput[this.layer % 2]!;
  }

  mlpInputIsReady(): void {
    this.#mlpInputReady = true;
  }

  position(row: number): number {
    return this.cache.positionOf(row);
  }

  set(unit: UnitKind): ActiveSet {
    return this.sets.at(unit, this.layer);
  }

  source(source: Source): Tensor {
    switch (source) {
      case "attention-input":
        return this.attentionInput();
      case "mlp-input":
        if (!this.#mlpInputReady)
          throw new Error("mlp-input does not exist before this block's attention has run");
        return this.buffers.mlpInput;
      case "previous-block":
        if (this.layer === 0) throw new Error("block 0 has no previous block");
        return this.buffers.attentionInput[(this.layer + 1) % 2]!;
      default:
        return source satisfies never;
    }
  }

  headNorms(): Tensor {
    return this.#computeAll.headNorms(this);
  }

  activations(): Tensor {
    return this.#computeAll.activations(this);
  }
}

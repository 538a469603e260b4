/** A selector that computes everything and keeps what it saw: the source tensors and what the units turned out to be worth. */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import type { ModelShape } from "../models/model.ts";
import { type BlockView, denseKv, noBytes, type Selector } from "../sparsity/selector.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** What is recorded per layer; each f32 [maxRows, width], valid until the next forward. */
export const recordedKinds = ["attentionInput", "headNorm", "mlpInput", "activation"] as const;
export type RecordedKind = (typeof recordedKinds)[number];

export class Recorder implements Selector {
  readonly kind = "capture";
  readonly bytesPerToken = noBytes;
  readonly attention = denseKv;
  readonly #kernels: Kernels;
  readonly #tensors: Readonly<Record<RecordedKind, readonly Tensor[]>>;

  constructor(kernels: Kernels, shape: ModelShape, maxRows: number) {
    this.#kernels = kernels;
    const perLayer = (width: number) =>
      Array.from({ length: shape.layers }, () => kernels.allocate("f32", [maxRows, width]));
    this.#tensors = {
      attentionInput: perLayer(shape.hiddenSize),
      headNorm: perLayer(shape.heads),
      mlpInput: perLayer(shape.hiddenSize),
      activation: perLayer(shape.ffnDim),
    };
  }

  heads(block: BlockView): ActiveSet | null {
    this.#keep("attentionInput", block.source("attention-input"), block);
    this.#keep("headNorm", block.headNorms(), block);
    return null;
  }

  neurons(block: BlockView): ActiveSet | null {
    this.#keep("mlpInput", block.source("mlp-input"), block);
    this.#keep("activation", block.activations(), block);
    return null;
  }

  /** Fills `into` with the leading values of what the last forward left in `layer`. */
  read(kind: RecordedKind, layer: number, into: Float32Array): Promise<void> {
    return this.#kernels.read(this.#tensors[kind][layer]!, into);
  }

  dispose(): void {
    for (const kind of recordedKinds) for (const tensor of this.#tensors[kind]) this.#kernels.free(tensor);
  }

  #keep(kind: RecordedKind, tensor: Tensor, block: BlockView): void {
    this.#kernels.copyRows(this.#tensors[kind][block.layer]!, 0, tensor, 0, block.rows);
  }
}

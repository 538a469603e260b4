/** ShadowLLM's predictor in the real forward: asked once, in the first block, it scores the units of all later ones. */
import type { Kernels } from "../../src/kernels/contract.ts";
import { blockRows } from "../../src/models/feed.ts";
import type { Policy } from "../../src/sparsity/policy.ts";
import {
  type BlockView,
  ScoredSelector,
  type Scorer,
  type Selector,
  type UnitKind,
} from "../../src/sparsity/selector.ts";
import { fromFloat32 } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { type Parameters, parameterBytes } from "../../src/train/factors.ts";

/** relu(source · downᵀ) · upᵀ + bias, where `up` holds the units of layer after layer, from layer 1 on. */
export interface OnePredictor {
  readonly parameters: Parameters;
  readonly units: number; // of one layer
}

interface Part {
  readonly down: Tensor;
  readonly hidden: Tensor;
  readonly up: readonly Tensor[]; // [layers] of f16 [units, rank]; layer 0 is the first of them if it has one
  readonly bias: readonly Tensor[];
  readonly logits: Tensor;
  readonly bytes: number;
}

/** Scores by one predictor per kind of unit; null where the kind stays dense. Reads block 0's mlp-input. */
export class OneScorer implements Scorer {
  readonly #kernels: Kernels;
  readonly #parts: Readonly<Record<UnitKind, Part | null>>;
  readonly #owned: Tensor[] = [];

  constructor(kernels: Kernels, predictors: Readonly<Record<UnitKind, OnePredictor | null>>) {
    this.#kernels = kernels;
    this.#parts = { heads: this.#part(predictors.heads), neurons: this.#part(predictors.neurons) };
  }

  /** To be called in block 0, after its attention. */
  look(block: BlockView): void {
    for (const part of [this.#parts.heads, this.#parts.neurons])
      if (part) {
        const input = block.source("mlp-input");
        this.#kernels.product(part.hidden, 0, input, part.down, null, "relu", null, 1, block.rows);
      }
  }

  scores(unit: UnitKind, { layer, rows }: BlockView): Tensor {
    const { hidden, up, bias, logits } = this.#parts[unit]!;
    this.#kernels.product(logits, 0, hidden, up[layer - 1]!, bias[layer - 1]!, "none", null, 1, rows);
    return logits;
  }

  bytes(unit: UnitKind): number {
    return this.#parts[unit]?.bytes ?? 0;
  }

  dispose(): void {
    for (const tensor of this.#owned) this.#kernels.free(tensor);
  }

  #part(predictor: OnePredictor | null): Part | null {
    if (predictor === null) return null;
    const { parameters, units } = predictor;
    const { rank, up, bias } = parameters;
    const down = parameters.down!;
    const layers = bias.length / units;
    const perLayer = <T>(make: (layer: number) => T): T[] =>
      Array.from({ length: layers }, (_, l) => make(l));
    return {
      down: this.#make("f16", [rank, down.length / rank], down),
      hidden: this.#make("f32", [blockRows, rank]),
      up: perLayer((l) =>
        this.#make("f16", [units, rank], up.subarray(l * units * rank, (l + 1) * units * rank)),
      ),
      bias: perLayer((l) => this.#make("f32", [units], bias.subarray(l * units, (l + 1) * units))),
      logits: this.#make("f32", [blockRows, units]),
      bytes: parameterBytes(rank, bias.length, down.length / rank) / layers,
    };
  }

  #make(dtype: "f16" | "f32", shape: number[], values?: Float32Array): Tensor {
    const tensor = this.#kernels.allocate(dtype, shape);
    this.#owned.push(tensor);
    if (values) this.#kernels.write(tensor, fromFloat32(dtype, values));
    return tensor;
  }
}

/** A selector that lets the scorer look in block 0, which itself is dense. */
export function oneSelector(kernels: Kernels, scorer: OneScorer, policy: Policy): Selector {
  const inner = new ScoredSelector("predicted", kernels, scorer, policy);
  return {
    kind: inner.kind,
    attention: inner.attention,
    bytesPerToken: inner.bytesPerToken,
    heads: (block) => inner.heads(block),
    neurons(block) {
      if (block.layer === 0) scorer.look(block);
      return inner.neurons(block);
    },
    dispose: () => inner.dispose(),
  };
}

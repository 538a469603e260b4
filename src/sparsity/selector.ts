/** The question that a block asks before it runs: which of your units shall I compute? */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { LayerPolicy, Policy } from "./policy.ts";

export type AttentionPolicy = Pick<Policy, "attention" | "refresh">;
export const denseKv: AttentionPolicy = { attention: "dense-kv" };

export const selectorKinds = ["dense", "predicted", "oracle", "static", "random"] as const;
export type SelectorKind = (typeof selectorKinds)[number];

export type UnitKind = "heads" | "neurons";

/**
 * The tensors that a predictor may read, each as the block's projections read it (after the layer norm, in a pre-norm
 * model): `mlp-input` is what fc1 of this block reads (no lookahead), `attention-input` what its q, k, v read (half a
 * block ahead of the MLP), `previous-block` what q, k, v of the block before read (a block ahead).
 */
export const sources = ["mlp-input", "attention-input", "previous-block"] as const;
export type Source = (typeof sources)[number];

/**
 * What predictors are trained on: a source of their block, or `first-block`, the mlp-input of block 0, which the one
 * predictor for all blocks reads (ShadowLLM). It is known to the MLP of block 0 and to all that follows.
 */
export const predictorSources = [...sources, "first-block"] as const;
export type PredictorSource = (typeof predictorSources)[number];

/**
 * The three steps of a block's attention beside which a selector may work ahead on the MLP's neurons: each step is one
 * job for the threads, and what runs beside it must not depend on it.
 */
export type AheadStep = "projections" | "attention" | "output";

/** What a selector sees of the block that asks. All tensors are f32 with `rows` valid leading rows. */
export interface BlockView {
  readonly layer: number;
  readonly rows: number;
  /** Whether the rows are one token each of several sequences, which share the neurons that any of them selects. */
  readonly unitesNeurons: boolean;
  /** Position of a row in its sequence. */
  position(row: number): number;
  /** The set to fill for this block. */
  set(unit: UnitKind): ActiveSet;
  /** A source tensor [maxRows, hidden_size]; throws if the block does not have it yet. */
  source(source: Source): Tensor;
  /** L2 norm of every head's output [maxRows, heads], by computing all heads. */
  headNorms(): Tensor;
  /** Every neuron's activation, after the ReLU [maxRows, ffn_dim], by computing all of them. */
  activations(): Tensor;
}

export interface Selector {
  readonly kind: SelectorKind | "capture";
  /** Bytes of its own weights that it reads for every token: the predictors'. An oracle's own cost is not counted. */
  readonly bytesPerToken: Readonly<Record<UnitKind, number>>;
  /**
   * Whether it calls the same ops and gives the same answers in all forwards of as many rows, whatever they hold: what a
   * model may then repeat without asking. Default: no.
   */
  readonly repeats?: boolean;
  /** How the cache deals with heads that are skipped; a state is made for it. */
  readonly attention: AttentionPolicy;
  /** The heads to compute; null means all. Called once per block, before attention. */
  heads(block: BlockView): ActiveSet | null;
  /** The neurons to compute; null means all. Called once per block, before the MLP. */
  neurons(block: BlockView): ActiveSet | null;
  /** Called once at each step of attention, between a fork and its join, for a selector that looks ahead. */
  ahead?(block: BlockView, step: AheadStep): void;
  dispose(): void;
}

/** Gives every unit of a block a score; the policy decides how many of the best are computed. */
export interface Scorer {
  /** Whether it calls the same ops in all forwards of as many rows. */
  readonly repeats: boolean;
  /** f32 [maxRows, units]; what `ahead` computed for this block is not computed again. */
  scores(unit: UnitKind, block: BlockView): Tensor;
  /** Whether the neurons of a layer are scored from tensors that exist before its attention. */
  looksAhead?(layer: number): boolean;
  /** Scores the neurons in two independent parts, beside the first two steps of attention. */
  ahead?(block: BlockView, step: Exclude<AheadStep, "output">): void;
  /** Called in every block before its MLP, whatever the policy says, for what later blocks will need of it. */
  beforeMlp?(block: BlockView): void;
  /** Bytes of weights that scoring the units of all of `layers` reads. */
  bytes(unit: UnitKind, layers: readonly number[]): number;
  dispose(): void;
}

/** A selector that ranks units by a scorer and cuts by a policy: oracle, predicted, static and random are its scorers. */
export class ScoredSelector implements Selector {
  readonly kind: SelectorKind;
  readonly policy: Policy;
  readonly attention: AttentionPolicy;
  readonly bytesPerToken: Readonly<Record<UnitKind, number>>;
  readonly #kernels: Kernels;
  readonly #scorer: Scorer;

  constructor(kind: SelectorKind, kernels: Kernels, scorer: Scorer, policy: Policy) {
    this.kind = kind;
    this.policy = policy;
    this.attention = policy;
    this.#kernels = kernels;
    this.#scorer = scorer;
    const bytes = (unit: UnitKind) =>
      scorer.bytes(
        unit,
        policy[unit].flatMap(({ kind }, layer) => (kind === "dense" ? [] : [layer])),
      );
    this.bytesPerToken = { heads: bytes("heads"), neurons: bytes("neurons") };
  }

  /** Of the class, not of the object: what somebody makes of a copy need not repeat. */
  get repeats(): boolean {
    return this.#scorer.repeats;
  }

  heads(block: BlockView): ActiveSet | null {
    return this.#select("heads", this.policy.heads[block.layer]!, block);
  }

  neurons(block: BlockView): ActiveSet | null {
    const policy = this.policy.neurons[block.layer]!;
    this.#scorer.beforeMlp?.(block);
    return this.#looksAhead(block.layer) ? block.set("neurons") : this.#select("neurons", policy, block);
  }

  ahead(block: BlockView, step: AheadStep): void {
    if (!this.#looksAhead(block.layer)) return;
    if (step === "output") this.#select("neurons", this.policy.neurons[block.layer]!, block);
    else this.#scorer.ahead!(block, step);
    this.#kernels.mark("predictor");
  }

  #looksAhead(layer: number): boolean {
    return this.policy.neurons[layer]!.kind !== "dense" && this.#scorer.looksAhead?.(layer) === true;
  }

  dispose(): void {
    this.#scorer.dispose();
  }

  /** The layer's threshold, or the calibrated one of the largest batch that is not larger than this. */
  #threshold(unit: UnitKind, alone: number, { layer, rows, unitesNeurons }: BlockView): number {
    if (unit === "heads" || !unitesNeurons) return alone;
    let threshold = alone;
    for (const { sequences, neurons } of this.policy.batches ?? [])
      if (sequences <= rows) threshold = neurons[layer] ?? alone;
    return threshold;
  }

  #select(unit: UnitKind, policy: LayerPolicy, block: BlockView): ActiveSet | null {
    if (policy.kind === "dense") return null;
    const set = block.set(unit);
    const scores = this.#scorer.scores(unit, block);
    if (policy.kind === "topK") this.#kernels.selectTopK(set, scores, policy.k, block.rows);
    else
      this.#kernels.selectThreshold(set, scores, this.#threshold(unit, policy.threshold, block), block.rows);
    this.#kernels.mark("predictor");
    return set;
  }
}

/** What selectors without weights of their own read. */
export const noBytes: Readonly<Record<UnitKind, number>> = { heads: 0, neurons: 0 };

/** A selector around a selector: lets it choose, and counts how much of the true sets it caught. */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import { blockRows } from "../models/feed.ts";
import type { ModelShape, ModelState } from "../models/model.ts";
import { ActiveSets } from "../sparsity/active-set.ts";
import type { AheadStep, BlockView, Selector } from "../sparsity/selector.ts";
import { Tally } from "../sparsity/tally.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface Fidelity {
  /** Share of units computed. */
  readonly density: number;
  /** Share of the true sets that was computed. */
  readonly recall: number;
  /** Share of what was computed that belongs to the true sets. */
  readonly precision: number;
}

/** What was caught of each kind of unit. */
export interface UnitFidelity {
  readonly mlp: Fidelity;
  readonly heads: Fidelity;
}

interface Sums {
  chosen: number;
  true: number;
  hits: number;
}

/**
 * The true sets are those of the sparse run's own inputs. Neurons: all above zero after the ReLU. Heads: of the same
 * number as were chosen, those with the largest output norms.
 */
export class MeasuringSelector implements Selector {
  readonly kind: Selector["kind"];
  readonly bytesPerToken: Selector["bytesPerToken"];
  readonly attention: Selector["attention"];
  readonly #kernels: Kernels;
  readonly #inner: Selector;
  readonly #shape: ModelShape;
  readonly #truth: ActiveSets;
  readonly #trueNeurons: Tally;
  readonly #norms: readonly Tensor[]; // [layers] of f32 [blockRows, heads]
  readonly #heads: readonly Sums[]; // [layers]
  readonly #host: { counts: Int32Array; indices: Int32Array; norms: Float32Array };

  constructor(kernels: Kernels, inner: Selector, shape: ModelShape) {
    const { layers, heads, ffnDim } = shape;
    this.kind = inner.kind;
    this.bytesPerToken = inner.bytesPerToken;
    this.attention = inner.attention;
    this.#kernels = kernels;
    this.#inner = inner;
    this.#shape = shape;
    this.#truth = new ActiveSets(kernels, layers, heads, ffnDim, blockRows);
    this.#trueNeurons = new Tally(this.#truth);
    this.#norms = Array.from({ length: layers }, () => kernels.allocate("f32", [blockRows, heads]));
    this.#heads = Array.from({ length: layers }, () => ({ chosen: 0, true: 0, hits: 0 }));
    this.#host = {
      counts: new Int32Array(blockRows),
      indices: new Int32Array(blockRows * heads),
      norms: new Float32Array(blockRows * heads),
    };
  }

  heads(block: BlockView): ActiveSet | null {
    const set = this.#inner.heads(block);
    if (set !== null) this.#kernels.copyRows(this.#norms[block.layer]!, 0, block.headNorms(), 0, block.rows);
    return set;
  }

  neurons(block: BlockView): ActiveSet | null {
    const set = this.#inner.neurons(block);
    const truth = this.#truth.at("neurons", block.layer);
    this.#truth.note("neurons", block.layer, truth);
    this.#kernels.selectThreshold(truth, block.activations(), 0, block.rows);
    return set;
  }

  ahead(block: BlockView, step: AheadStep): void {
    this.#inner.ahead?.(block, step);
  }

  /** Counts the first `rows` rows of the last forward of `state`. */
  async add(state: ModelState, rows: number): Promise<void> {
    await this.#trueNeurons.add(this.#kernels, rows);
    for (let layer = 0; layer < this.#shape.layers; layer++) {
      const sums = this.#heads[layer]!;
      if (state.sets.noted("heads", layer) !== null) await this.#addHeads(state, layer, rows);
      else for (const key of ["chosen", "true", "hits"] as const) sums[key] += rows * this.#shape.heads;
    }
  }

  /** What was caught over all that was counted; `tally` must have counted the same forwards of `state`. */
  result(state: ModelState, tally: Tally): UnitFidelity & { readonly layers: readonly UnitFidelity[] } {
    const neurons = this.#heads.map((_, layer): Sums => {
      const trueCount = this.#trueNeurons.total("neurons", layer);
      // A chosen neuron is a true one if its activation came out above zero: that is what `active` counts.
      const hits = state.sets.noted("neurons", layer) !== null ? tally.total("active", layer) : trueCount;
      return { chosen: tally.total("neurons", layer), true: trueCount, hits };
    });
    const { heads, ffnDim } = this.#shape;
    const of = (mlp: readonly Sums[], attention: readonly Sums[]): UnitFidelity => ({
      mlp: fidelity(mlp, tally.rows * ffnDim),
      heads: fidelity(attention, tally.rows * heads),
    });
    const layers = neurons.map((sums, layer) => of([sums], [this.#heads[layer]!]));
    return { ...of(neurons, this.#heads), layers };
  }

  /** Share of neurons above zero in a layer. */
  trueDensity(layer: number): number {
    return this.#trueNeurons.mean("neurons", layer) / this.#shape.ffnDim;
  }

  dispose(): void {
    this.#truth.free(this.#kernels);
    for (const tensor of this.#norms) this.#kernels.free(tensor);
  }

  /** Compares the chosen heads of each row with as many of the largest norms. */
  async #addHeads(state: ModelState, layer: number, rows: number): Promise<void> {
    const { heads } = this.#shape;
    const { counts, indices, norms } = this.#host;
    const set = state.sets.at("heads", layer);
    const sums = this.#heads[layer]!;
    await this.#kernels.read(set.counts, counts.subarray(0, rows), set.slot * state.sets.maxRows);
    await this.#kernels.read(set.indices, indices.subarray(0, rows * heads));
    await this.#kernels.read(this.#norms[layer]!, norms.subarray(0, rows * heads));
    for (let r = 0; r < rows; r++) {
      const row = norms.subarray(r * heads, (r + 1) * heads);
      const chosen = indices.subarray(r * heads, r * heads + counts[r]!);
      const order = Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
      const best = new Set(order.slice(0, chosen.length));
      sums.chosen += chosen.length;
      sums.true += chosen.length;
      for (const head of chosen) if (best.has(head)) sums.hits += 1;
    }
  }
}

/** @param units units there were per layer, over all tokens */
function fidelity(layers: readonly Sums[], units: number): Fidelity {
  const sum = (key: keyof Sums) => layers.reduce((total, layer) => total + layer[key], 0);
  const [chosen, trueCount, hits] = [sum("chosen"), sum("true"), sum("hits")];
  return {
    density: units > 0 ? chosen / (layers.length * units) : 1,
    recall: trueCount > 0 ? hits / trueCount : 1,
    precision: chosen > 0 ? hits / chosen : 1,
  };
}

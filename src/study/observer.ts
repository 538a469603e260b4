/** A dense forward that keeps what it saw, and the neurons that a predictor would have chosen on the same inputs. */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import type { ModelShape } from "../models/model.ts";
import { type BlockView, denseKv, noBytes, type Selector } from "../sparsity/selector.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type RecordedKind, Recorder } from "../train/recorder.ts";
import { addUnit, type Bits, emptySet } from "./math.ts";

export class Observer implements Selector {
  readonly kind = "capture";
  readonly bytesPerToken = noBytes;
  readonly attention = denseKv;
  readonly #kernels: Kernels;
  readonly #recorder: Recorder;
  readonly #predicted: Selector | null;
  readonly #units: number;
  readonly #maxRows: number;
  readonly #counts: Tensor | null; // i32 [layers, maxRows]
  /** Per layer, where the forward's own sets share one memory: they are read after the forward. */
  readonly #indices: readonly Tensor[]; // [layers] of i32 [maxRows, ffn_dim]
  readonly #isChosen: boolean[]; // [layers] false: the predictor leaves the layer dense

  /** @param predicted stays the caller's */
  constructor(kernels: Kernels, shape: ModelShape, maxRows: number, predicted: Selector | null) {
    this.#kernels = kernels;
    this.#recorder = new Recorder(kernels, shape, maxRows);
    this.#predicted = predicted;
    this.#units = shape.ffnDim;
    this.#maxRows = maxRows;
    const layers = predicted === null ? 0 : shape.layers;
    this.#counts = predicted === null ? null : kernels.allocate("i32", [layers, maxRows]);
    this.#indices = Array.from({ length: layers }, () => kernels.allocate("i32", [maxRows, shape.ffnDim]));
    this.#isChosen = Array(layers).fill(false);
  }

  heads(block: BlockView): ActiveSet | null {
    return this.#recorder.heads(block);
  }

  neurons(block: BlockView): ActiveSet | null {
    if (this.#predicted !== null) {
      const { layer } = block;
      const set: ActiveSet = {
        units: this.#units,
        indices: this.#indices[layer]!,
        counts: this.#counts!,
        slot: layer,
      };
      this.#isChosen[layer] = this.#predicted.neurons(withSet(block, set)) !== null;
    }
    return this.#recorder.neurons(block);
  }

  /** Fills `into` with the leading values of what the last forward left in `layer`. */
  read(kind: RecordedKind, layer: number, into: Float32Array): Promise<void> {
    return this.#recorder.read(kind, layer, into);
  }

  /** The sets that the predictor chose for the leading rows of the last forward; null where it leaves all units in. */
  async chosen(layer: number, rows: number): Promise<Bits[] | null> {
    if (this.#isChosen[layer] !== true) return null;
    const counts = new Int32Array(rows);
    const indices = new Int32Array(rows * this.#units);
    await this.#kernels.read(this.#counts!, counts, layer * this.#maxRows);
    await this.#kernels.read(this.#indices[layer]!, indices);
    return Array.from(counts, (count, r) => {
      const set = emptySet(this.#units);
      for (let i = 0; i < count; i++) addUnit(set, indices[r * this.#units + i]!);
      return set;
    });
  }

  get hasPredictor(): boolean {
    return this.#predicted !== null;
  }

  dispose(): void {
    this.#recorder.dispose();
    for (const tensor of this.#indices) this.#kernels.free(tensor);
    if (this.#counts !== null) this.#kernels.free(this.#counts);
  }
}

/** The same block, but chosen neurons go to `set`. */
const withSet = (block: BlockView, set: ActiveSet): BlockView => ({
  layer: block.layer,
  position: (row) => block.position(row),
  rows: block.rows,
  unitesNeurons: block.unitesNeurons,
  set: () => set,
  source: (source) => block.source(source),
  headNorms: () => block.headNorms(),
  activations: () => block.activations(),
});

/** Watches a dense run for what capture does not keep: the residual stream before the norms, and activations' sizes. */
import { countIds } from "../../src/eval/documents.ts";
import type { Block } from "../../src/layers/block.ts";
import type { Engine } from "../../src/load.ts";
import { blockRows, feed } from "../../src/models/feed.ts";
import { type BlockView, denseKv, noBytes, type Selector } from "../../src/sparsity/selector.ts";
import { numberToF16 } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

/** Per layer, binary16 bits [rows, width], in the order of the capture's rows. */
export interface Observed {
  readonly beforeAttention: readonly Uint16Array[]; // x: the residual that enters the block
  readonly beforeMlp: readonly Uint16Array[]; // y: the residual after the block's attention
  readonly attended: readonly Uint16Array[]; // the heads' outputs before the output projection
  readonly activation: ReadonlyMap<number, Uint16Array>; // of the layers asked for
}

/** The residual stream as it stands. Experiments may look where selectors may not: a view is the block itself. */
export const residualOf = (block: BlockView): Tensor => (block as Block).buffers.residual;

class Observer implements Selector {
  readonly kind = "capture";
  readonly bytesPerToken = noBytes;
  readonly attention = denseKv;
  readonly before: Tensor[];
  readonly between: Tensor[];
  readonly attended: Tensor[];
  readonly activation: Tensor[];
  readonly #engine: Engine;

  constructor(engine: Engine) {
    const { layers, hiddenSize, ffnDim } = engine.model.shape;
    const make = (width: number) =>
      Array.from({ length: layers }, () => engine.kernels.allocate("f32", [blockRows, width]));
    [this.before, this.between, this.attended] = [make(hiddenSize), make(hiddenSize), make(hiddenSize)];
    this.activation = make(ffnDim);
    this.#engine = engine;
  }

  heads(block: BlockView) {
    this.#engine.kernels.copyRows(this.before[block.layer]!, 0, residualOf(block), 0, block.rows);
    return null;
  }

  neurons(block: BlockView) {
    const { kernels } = this.#engine;
    kernels.copyRows(this.between[block.layer]!, 0, residualOf(block), 0, block.rows);
    const { attended } = (block as Block).buffers;
    kernels.copyRows(this.attended[block.layer]!, 0, attended, 0, block.rows);
    kernels.copyRows(this.activation[block.layer]!, 0, block.activations(), 0, block.rows);
    return null;
  }

  dispose(): void {
    for (const tensor of [...this.before, ...this.between, ...this.attended, ...this.activation])
      this.#engine.kernels.free(tensor);
  }
}

/** @param layers whose activations are kept; the residuals are kept of all */
export async function observe(
  engine: Engine,
  documents: readonly Int32Array[],
  layers: readonly number[],
): Promise<Observed> {
  const { model, kernels } = engine;
  const { layers: all, hiddenSize: d, ffnDim: n } = model.shape;
  const total = countIds(documents);
  const make = () => Array.from({ length: all }, () => new Uint16Array(total * d));
  const observed = {
    beforeAttention: make(),
    beforeMlp: make(),
    attended: make(),
    activation: new Map(layers.map((layer) => [layer, new Uint16Array(total * n)])),
  };
  const observer = new Observer(engine);
  let done = 0;
  const keep = async (tensor: Tensor, into: Uint16Array, width: number, row: number, rows: number) => {
    const values = new Float32Array(rows * width);
    await kernels.read(tensor, values);
    into.set(Uint16Array.from(values, numberToF16), row * width);
  };
  for (const ids of documents) {
    const state = model.createState({ capacity: ids.length, maxRows: blockRows });
    const afterBlock = async (start: number, rows: number): Promise<void> => {
      for (let layer = 0; layer < all; layer++) {
        await keep(observer.before[layer]!, observed.beforeAttention[layer]!, d, done + start, rows);
        await keep(observer.between[layer]!, observed.beforeMlp[layer]!, d, done + start, rows);
        await keep(observer.attended[layer]!, observed.attended[layer]!, d, done + start, rows);
        const activation = observed.activation.get(layer);
        if (activation) await keep(observer.activation[layer]!, activation, n, done + start, rows);
      }
    };
    await feed(model, state, ids, observer, "none", { afterBlock });
    state.dispose();
    done += ids.length;
  }
  observer.dispose();
  return observed;
}

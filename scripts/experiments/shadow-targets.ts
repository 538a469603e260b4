/** What a predictor for all blocks learns: per row, the units' worth in many layers side by side. */
import { countIds } from "../../src/eval/documents.ts";
import { f16ToNumber, numberToF16 } from "../../src/tensor/dtype.ts";
import { joinLayers } from "../../src/train/prepare-shadow.ts";
import type { Rows } from "../../src/train/rows.ts";
import { readMatrix } from "../../src/train/shadow/host-weights.ts";
import { importances, overLargest } from "../../src/train/shadow/importance.ts";
import { openWeights } from "../../src/weights/index.ts";
import type { Workbench } from "./workbench.ts";

/** Importances of all captured rows as binary16 bits [rows, layers · units], each row and layer over its largest; ShadowLLM scales each example between its extremes, and here the least is about 0. */
export interface Importances {
  readonly neurons: Uint16Array;
  readonly heads: Uint16Array;
  /** Rows with a next id; of the others the loss says nothing. */
  readonly hasNext: Uint8Array;
}

export async function collect(bench: Workbench): Promise<Importances> {
  const { model, kernels, folder } = bench.engine;
  const { layers, heads: headCount, ffnDim } = model.shape;
  const total = countIds(bench.documents);
  const found = {
    neurons: new Uint16Array(total * layers * ffnDim),
    heads: new Uint16Array(total * layers * headCount),
    hasNext: new Uint8Array(total).fill(1),
  };
  let done = 0;
  const keep = (into: Uint16Array, perLayer: readonly Float32Array[], width: number, rows: number) => {
    for (const [layer, values] of perLayer.entries()) {
      const bits = Uint16Array.from(overLargest(values, width), numberToF16);
      for (let r = 0; r < rows; r++)
        into.set(bits.subarray(r * width, (r + 1) * width), ((done + r) * layers + layer) * width);
    }
  };
  await importances(kernels, folder, bench.documents, (document, neurons, heads) => {
    const rows = bench.documents[document]!.length;
    keep(found.neurons, neurons, ffnDim, rows);
    keep(found.heads, heads, headCount, rows);
    done += rows;
    found.hasNext[done - 1] = 0;
  });
  return found;
}

/** `root`: the square root of the importance, whose largest values weigh less in a mean square. */
export type Target = "importance" | "root" | "active";

const widened = Float32Array.from({ length: 65536 }, (_, bits) => f16ToNumber(bits));
const rooted = widened.map(Math.sqrt);

/**
 * Rows whose units are those of `layers`, one layer after the other.
 * @param base whose inputs and split are used
 */
export async function joined(
  bench: Workbench,
  base: Rows,
  found: Importances,
  unit: "neurons" | "heads",
  target: Target,
  layers: readonly number[],
): Promise<Rows> {
  const { shape } = bench.engine.model;
  const width = unit === "heads" ? shape.heads : shape.ffnDim;
  const hasNext = (row: number) => found.hasNext[row] === 1;
  const shared = {
    ...base,
    units: layers.length * width,
    train: base.train.filter(hasNext),
    heldOut: base.heldOut.filter(hasNext),
  };
  if (target !== "active") {
    const bits = found[unit];
    const table = target === "root" ? rooted : widened;
    const at = (row: number, u: number) =>
      (row * shape.layers + layers[Math.floor(u / width)]!) * width + (u % width);
    return { ...shared, value: (row, u) => table[bits[at(row, u)]!]! };
  }
  const perLayer: Rows[] = [];
  for (const layer of layers) perLayer.push(await bench.rows(layer, "mlp-input"));
  return { ...shared, value: joinLayers(perLayer).value };
}

/** A head's worth without a gradient: the norm of what it adds to the residual, ‖Wo[:, head] · output‖. */
export async function writtenNorms(bench: Workbench, base: Rows, layer: number): Promise<Rows> {
  const { heads, headDim, hiddenSize: d } = bench.engine.model.shape;
  const weights = await openWeights(bench.engine.folder);
  const output = await readMatrix(weights, `model.decoder.layers.${layer}.self_attn.out_proj.weight`);
  await weights.close();
  // ‖W·c‖² = cᵀ·(Wᵀ·W)·c: one small matrix per head instead of a product per row.
  const gram = new Float32Array(heads * headDim * headDim);
  for (let o = 0; o < d; o++)
    for (let i = 0; i < d; i++)
      for (let j = 0; j < headDim; j++) {
        const head = Math.floor(i / headDim);
        gram[i * headDim + j]! += output[o * d + i]! * output[o * d + head * headDim + j]!;
      }
  const attended = bench.observed.attended[layer]!;
  const rows = attended.length / d;
  const norms = new Float32Array(rows * heads);
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < d; i++) {
      const head = Math.floor(i / headDim);
      let sum = 0;
      for (let j = 0; j < headDim; j++)
        sum += gram[i * headDim + j]! * widened[attended[row * d + head * headDim + j]!]!;
      norms[row * heads + head]! += sum * widened[attended[row * d + i]!]!;
    }
  const roots = norms.map((square) => Math.sqrt(Math.max(0, square)));
  return { ...base, units: heads, value: (row, head) => roots[row * heads + head]! };
}

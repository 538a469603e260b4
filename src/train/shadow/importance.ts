/** ShadowLLM's criterion (Akhauri et al. 2024, `plainact`): |gradient · activation|, for every token, unit and layer. */
import type { Kernels } from "../../kernels/contract.ts";
import { gradients, type LayerGradients } from "./backward.ts";
import { openCheckpoint } from "./checkpoint.ts";
import { Products } from "./products.ts";

/** |∂loss/∂a · a| of each neuron: to first order, how much the loss changes if it is not computed. */
export function neuronImportance({ activation, activationGradient }: LayerGradients): Float32Array {
  return activation.map((value, i) => Math.abs(value * activationGradient[i]!));
}

/** The same of each head, whose output is a vector: |Σ ∂loss/∂c · c| over its columns. [ids, heads] */
export function headImportance({ context, contextGradient }: LayerGradients, headDim: number): Float32Array {
  const sums = new Float32Array(context.length / headDim);
  for (let i = 0; i < context.length; i++)
    sums[Math.floor(i / headDim)]! += context[i]! * contextGradient[i]!;
  return sums.map(Math.abs);
}

/** Each value over the largest of its row, so that every row weighs the same; rows of zeros stay as they are. */
export function overLargest(values: Float32Array, width: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += width) {
    let largest = 0;
    for (let i = start; i < start + width; i++) largest = Math.max(largest, values[i]!);
    if (largest > 0) for (let i = start; i < start + width; i++) out[i] = values[i]! / largest;
  }
  return out;
}

/** Called with a document's importances, per layer: neurons [ids, ffn_dim], heads [ids, heads]. */
export type OnDocument = (
  document: number,
  neurons: readonly Float32Array[],
  heads: readonly Float32Array[],
) => void;

/**
 * Runs the documents forth and back through the model in `folder`.
 * @param breathe awaited after each block; throws to stop
 */
export async function importances(
  kernels: Kernels,
  folder: string,
  documents: readonly Int32Array[],
  onDocument: OnDocument,
  breathe: () => Promise<void> | undefined = () => undefined,
): Promise<void> {
  const checkpoint = await openCheckpoint(kernels, folder);
  const longest = documents.reduce((max, ids) => Math.max(max, ids.length), 1);
  const products = new Products(kernels, longest);
  const headDim = checkpoint.hiddenSize / checkpoint.heads;
  try {
    for (const [number, ids] of documents.entries()) {
      const { layers } = await gradients(checkpoint, products, ids, breathe);
      onDocument(
        number,
        layers.map(neuronImportance),
        layers.map((layer) => headImportance(layer, headDim)),
      );
    }
  } finally {
    products.dispose();
    checkpoint.dispose();
  }
}

/** The MLP, computed for the neurons that the selector picks. */
import type { ActiveSet } from "../kernels/contract.ts";
import type { Selector } from "../sparsity/selector.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Block } from "./block.ts";

/**
 * residual += Σ_{i ∈ A} relu(W1[i, :] · h + b1_i) · W2ᵀ[i, :] + b2.
 * A picked neuron whose activation is zero adds nothing, so its row of W2ᵀ is not read either: `active` drops it.
 */
export function feedForward(block: Block, selector: Selector): void {
  const { kernels, buffers, weights, rows, sets, layer } = block;
  const { fc1, fc2Transposed } = weights;
  const neurons = unite(block, selector.neurons(block));
  const active = neurons && sets.activeOf(neurons, layer);
  sets.note("neurons", layer, neurons);
  sets.note("active", layer, active);
  kernels.product(buffers.activations, 0, buffers.mlpInput, fc1.weight, fc1.bias, "relu", neurons, 1, rows);
  if (neurons && active) kernels.refine(active, neurons, buffers.activations, rows);
  const { weight, bias } = fc2Transposed;
  kernels.accumulate(buffers.residual, buffers.activations, weight, bias, active, 1, rows);
  kernels.mark("mlp");
}

/** In a batch, a row of weights that any sequence needs is read once and serves all. */
function unite(block: Block, neurons: ActiveSet | null): ActiveSet | null {
  const { kernels, sets, layer, rows } = block;
  if (neurons === null || !block.unitesNeurons || rows === 1) return neurons;
  const united = sets.at("united", layer);
  kernels.unite(united, neurons, rows);
  return united;
}

/** Every neuron's activation: f32 [maxRows, ffn_dim]. */
export function allActivations(block: Block): Tensor {
  const { kernels, buffers, weights, rows } = block;
  const [maxRows, width] = buffers.activations.shape as [number, number];
  const all = (buffers.all.activations ??= kernels.allocate("f32", [maxRows, width]));
  const { weight, bias } = weights.fc1;
  kernels.product(all, 0, buffers.mlpInput, weight, bias, "relu", null, 1, rows);
  return all;
}

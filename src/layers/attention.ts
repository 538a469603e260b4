/** Attention over the cache, computed for the heads that the selector picks. */
import type { ActiveSet } from "../kernels/contract.ts";
import type { Selector } from "../sparsity/selector.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Block } from "./block.ts";

/** Keys and values of all heads (`dense-kv`), queries of the selected ones. */
function project(block: Block, heads: ActiveSet | null): void {
  const { kernels, weights, buffers, position, rows, headDim } = block;
  const input = block.attentionInput();
  kernels.product(block.keys, position, input, weights.key.weight, weights.key.bias, "none", null, 1, rows);
  kernels.product(
    block.values,
    position,
    input,
    weights.value.weight,
    weights.value.bias,
    "none",
    null,
    1,
    rows,
  );
  const { weight, bias } = weights.query;
  kernels.product(buffers.query, 0, input, weight, bias, "none", heads, headDim, rows);
}

/** residual += Wo · attention(selected heads) + bo. Appends the rows' keys and values to the cache. */
export function attend(block: Block, selector: Selector): void {
  const { kernels, buffers, weights, position, rows, headDim } = block;
  const heads = selector.heads(block);
  block.sets.note("heads", block.layer, heads);
  project(block, heads);
  kernels.attention(
    buffers.attended,
    buffers.query,
    block.keys,
    block.values,
    heads,
    headDim,
    position,
    rows,
  );
  const { weight, bias } = weights.outputTransposed;
  kernels.accumulate(buffers.residual, buffers.attended, weight, bias, heads, headDim, rows);
  kernels.mark("attention");
}

/** L2 norm of every head's output before the output projection: f32 [maxRows, heads]. */
export function allHeadNorms(block: Block): Tensor {
  const { kernels, buffers, headDim, position, rows } = block;
  const [maxRows, width] = buffers.query.shape as [number, number];
  const attended = (buffers.all.attended ??= kernels.allocate("f32", [maxRows, width]));
  const norms = (buffers.all.norms ??= kernels.allocate("f32", [maxRows, width / headDim]));
  project(block, null);
  kernels.attention(attended, buffers.query, block.keys, block.values, null, headDim, position, rows);
  kernels.unitNorms(norms, attended, rows);
  return norms;
}

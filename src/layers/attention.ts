/** Attention over the cache, computed for the heads that the selector picks. */
import type { ActiveSet } from "../kernels/contract.ts";
import type { AheadStep, Selector } from "../sparsity/selector.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Block } from "./block.ts";

/**
 * Keys and values, of all heads or, in `recover` mode, of those that are selected now; queries of the selected ones.
 * Beside them the selector may look ahead.
 */
function project(block: Block, heads: ActiveSet | null, selector: Selector | null): void {
  const { kernels, weights, buffers, cache, layer, rows, headDim } = block;
  const { key, value, query } = weights;
  const { placement, recovery } = cache;
  const [keys, values] = [cache.keys[layer]!, cache.values[layer]!];
  const input = block.attentionInput();
  kernels.fork();
  kernels.product(buffers.query, 0, input, query.weight, query.bias, "none", heads, headDim, rows);
  if (recovery) {
    const { weight: kw, bias: kb } = key;
    const { weight: vw, bias: vb } = value;
    kernels.recover(keys, values, input, kw, kb, vw, vb, heads, headDim, recovery[layer]!, placement, rows);
  } else {
    kernels.product(buffers.key, 0, input, key.weight, key.bias, "none", null, 1, rows);
    kernels.product(buffers.value, 0, input, value.weight, value.bias, "none", null, 1, rows);
  }
  if (selector !== null) lookAhead(block, selector, "projections");
  kernels.join();
  if (recovery) return;
  kernels.storeRows(keys, buffers.key, headDim, placement, rows);
  kernels.storeRows(values, buffers.value, headDim, placement, rows);
}

function lookAhead(block: Block, selector: Selector, step: AheadStep): void {
  if (selector.ahead === undefined) return;
  block.kernels.mark("attention");
  selector.ahead(block, step);
}

function attendTo(block: Block, out: Tensor, heads: ActiveSet | null): void {
  const { kernels, buffers, cache, layer, rows, headDim } = block;
  const { placement } = cache;
  kernels.attention(
    out,
    buffers.query,
    cache.keys[layer]!,
    cache.values[layer]!,
    heads,
    headDim,
    placement,
    rows,
  );
}

/** residual += Wo · attention(selected heads) + bo. The rows' keys and values join the cache. */
export function attend(block: Block, selector: Selector): void {
  const { kernels, buffers, weights, layer, sets, rows, headDim } = block;
  const heads = selector.heads(block);
  sets.note("heads", layer, heads);
  sets.note("recovered", layer, block.cache.recovery && sets.at("recovered", layer));
  project(block, heads, selector);
  kernels.fork();
  attendTo(block, buffers.attended, heads);
  lookAhead(block, selector, "attention");
  kernels.join();
  kernels.fork();
  const { weight, bias } = weights.outputTransposed;
  kernels.accumulate(buffers.residual, buffers.attended, weight, bias, heads, headDim, rows);
  lookAhead(block, selector, "output");
  kernels.join();
  kernels.mark("attention");
}

/** L2 norm of every head's output before the output projection: f32 [maxRows, heads]. */
export function allHeadNorms(block: Block): Tensor {
  const { kernels, buffers, headDim, rows } = block;
  const [maxRows, width] = buffers.query.shape as [number, number];
  const attended = (buffers.all.attended ??= kernels.allocate("f32", [maxRows, width]));
  const norms = (buffers.all.norms ??= kernels.allocate("f32", [maxRows, width / headDim]));
  project(block, null, null);
  attendTo(block, attended, null);
  kernels.unitNorms(norms, attended, rows);
  return norms;
}

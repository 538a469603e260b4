/** Runs a list of ids through a model in blocks: the one loop behind prompts, evaluation and capture. */
import type { Selector } from "../sparsity/selector.ts";
import { createBreather } from "../util/breathe.ts";
import type { Model, ModelState, Outputs } from "./model.ts";

/** Rows of a block: enough for matrix products to run at full speed, few enough for scratch memory to stay small. */
export const blockRows = 64;
/** Rows of a block of a prompt, of which only the last needs logits: weights are unpacked once for all of them. */
export const promptRows = 256;

export interface FeedOptions {
  /** Which sequence of the state; default 0. */
  readonly sequence?: number | undefined;
  /** Called with the index of a block's first id and its number of rows, before the next block starts. */
  readonly afterBlock?: ((start: number, rows: number) => Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Appends `ids` to a sequence in blocks of at most `state.maxRows`.
 * @param outputs `last` computes logits of the very last id only
 * @throws the signal's reason, between blocks
 */
export async function feed(
  model: Model,
  state: ModelState,
  ids: Int32Array,
  selector: Selector,
  outputs: Outputs,
  { sequence = 0, afterBlock, signal }: FeedOptions = {},
): Promise<void> {
  const breathe = createBreather(signal);
  for (let start = 0; start < ids.length; start += state.maxRows) {
    const block = ids.subarray(start, start + state.maxRows);
    const isLast = start + block.length === ids.length;
    const places = new Int32Array(block.length).fill(sequence);
    model.forward(state, block, selector, outputs === "last" && !isLast ? "none" : outputs, places);
    await afterBlock?.(start, block.length);
    await breathe();
  }
}

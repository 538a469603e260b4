/** Logits → ids, for all rows of a forward: on the device where the most likely id is wanted, else by sampling. */
import type { Engine } from "./load.ts";
import type { ModelState } from "./models/model.ts";
import type { Sequence } from "./sequence.ts";

export interface Chooser {
  /** Next id of each sequence; row r of the logits is the r-th sequence's. The array is reused. */
  choose(sequences: readonly Sequence[]): Promise<Int32Array>;
  /** Tells the state how many logits these sequences will need. Call it before each forward whose logits they choose from. */
  announce(sequences: readonly Sequence[]): void;
  dispose(): void;
}

export function createChooser({ kernels, model }: Engine, state: ModelState): Chooser {
  const { vocabSize } = model.shape;
  const best = kernels.allocate("i32", [state.maxRows]);
  const ids = new Int32Array(state.maxRows);
  let logits: Float32Array | null = null;
  return {
    announce(sequences) {
      let needed = 1;
      for (const { sampler } of sequences) needed = Math.max(needed, sampler.needed);
      state.neededLogits = needed;
    },
    async choose(sequences) {
      const rows = sequences.length;
      if (sequences.some(({ sampler }) => sampler.isArgmax)) {
        kernels.argmax(best, state.logits, rows);
        await kernels.read(best, ids.subarray(0, rows));
      }
      for (const [row, { sampler, history }] of sequences.entries()) {
        if (sampler.isArgmax) continue;
        logits ??= new Float32Array(vocabSize);
        await kernels.read(state.logits, logits, row * vocabSize);
        ids[row] = sampler.next(logits, history);
      }
      return ids;
    },
    dispose: () => kernels.free(best),
  };
}

/** Decoding speed of several sequences together, beside one alone: interleaved rounds in one process. */
import { Batch } from "../batch.ts";
import type { Engine } from "../load.ts";
import { denseSelector } from "../sparsity/dense.ts";
import type { Selector } from "../sparsity/selector.ts";
import { pairedRatio, type Spread, spread } from "./bench.ts";

export interface BatchSide {
  /** Tokens of all sequences together. */
  readonly tokensPerSecond: Spread;
  /** Over one dense sequence, round by round. */
  readonly overOne: Spread;
  /** Share of neurons that at least one sequence selects; each token computes all of them. */
  readonly unionDensity: number;
  /** Share of heads, each sequence its own. */
  readonly headDensity: number;
}

export interface BatchBench {
  readonly sequences: number;
  readonly one: { readonly tokensPerSecond: Spread };
  readonly dense: BatchSide;
  readonly sparse: BatchSide;
}

export interface BatchBenchOptions {
  /** Prompts, taken in turn by the sequences. */
  readonly prompts: readonly (string | readonly number[])[];
  readonly sequences: number;
  /** Tokens of each sequence in a round. */
  readonly tokens: number;
  /** Rounds counted; one more comes before them to warm up. */
  readonly rounds: number;
  readonly onRound?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Decodes until all sequences have their tokens; prompts are not timed. @returns tokens per second */
async function lap(batch: Batch, sequences: number, options: BatchBenchOptions): Promise<number> {
  const { prompts, tokens } = options;
  const { decodeSeconds } = batch;
  const { rows } = batch.tally;
  for (let s = 0; s < sequences; s++)
    batch.add({ prompt: prompts[s % prompts.length]!, maxTokens: tokens, ignoreEos: true, temperature: 0 });
  while (batch.pending > 0) await batch.step();
  return (batch.tally.rows - rows) / (batch.decodeSeconds - decodeSeconds);
}

/** One dense sequence, then all dense, then all under `selector`, in every round. */
export async function benchBatch(
  engine: Engine,
  selector: Selector,
  options: BatchBenchOptions,
): Promise<BatchBench> {
  const { sequences, rounds, onRound, signal } = options;
  // Kept from round to round, as a server keeps its batch: new ones would bring page faults and garbage collection.
  const open = (selected: Selector, maxSequences: number) =>
    new Batch(engine, { maxSequences, selector: selected, signal });
  const sides = [open(denseSelector, 1), open(denseSelector, sequences), open(selector, sequences)] as const;
  const rates: [one: number[], dense: number[], sparse: number[]] = [[], [], []];
  try {
    for (let round = 0; round <= rounds; round++) {
      for (const [i, batch] of sides.entries()) {
        const rate = await lap(batch, i === 0 ? 1 : sequences, options);
        if (round > 0) rates[i]!.push(rate);
      }
      onRound?.(round, rounds);
    }
    const [one, dense, sparse] = rates;
    const side = (list: readonly number[], { tally }: Batch): BatchSide => ({
      tokensPerSecond: spread(list),
      overOne: pairedRatio(list, one),
      unionDensity: tally.density("neurons"),
      headDensity: tally.density("heads"),
    });
    return {
      sequences,
      one: { tokensPerSecond: spread(one) },
      dense: side(dense, sides[1]),
      sparse: side(sparse, sides[2]),
    };
  } finally {
    for (const batch of sides) batch.dispose();
  }
}

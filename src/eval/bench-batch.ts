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

interface Lap {
  readonly tokensPerSecond: number;
  readonly unionDensity: number;
  readonly headDensity: number;
}

/** Decodes until all sequences have their tokens; prompts are not timed. */
async function lap(
  engine: Engine,
  selector: Selector,
  sequences: number,
  options: BatchBenchOptions,
): Promise<Lap> {
  const { prompts, tokens, signal } = options;
  const batch = new Batch(engine, { maxSequences: sequences, selector, signal });
  try {
    for (let s = 0; s < sequences; s++)
      batch.add({ prompt: prompts[s % prompts.length]!, maxTokens: tokens, ignoreEos: true, temperature: 0 });
    while (batch.pending > 0) await batch.step();
    const { tally, decodeSeconds } = batch;
    return {
      tokensPerSecond: tally.rows / decodeSeconds,
      unionDensity: tally.density("neurons"),
      headDensity: tally.density("heads"),
    };
  } finally {
    batch.dispose();
  }
}

/** One dense sequence, then all dense, then all under `selector`, in every round. */
export async function benchBatch(
  engine: Engine,
  selector: Selector,
  options: BatchBenchOptions,
): Promise<BatchBench> {
  const { sequences, rounds, onRound } = options;
  const laps: [one: Lap[], dense: Lap[], sparse: Lap[]] = [[], [], []];
  for (let round = 0; round <= rounds; round++) {
    const results = [
      await lap(engine, denseSelector, 1, options),
      await lap(engine, denseSelector, sequences, options),
      await lap(engine, selector, sequences, options),
    ];
    if (round > 0) for (const [i, result] of results.entries()) laps[i]!.push(result);
    onRound?.(round, rounds);
  }
  const [one, dense, sparse] = laps;
  const rates = (list: readonly Lap[]) => list.map(({ tokensPerSecond }) => tokensPerSecond);
  const side = (list: readonly Lap[]): BatchSide => ({
    tokensPerSecond: spread(rates(list)),
    overOne: pairedRatio(rates(list), rates(one)),
    unionDensity: list[0]!.unionDensity,
    headDensity: list[0]!.headDensity,
  });
  return {
    sequences,
    one: { tokensPerSecond: spread(rates(one)) },
    dense: side(dense),
    sparse: side(sparse),
  };
}

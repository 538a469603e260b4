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

/** A batch that is kept from round to round, as a server keeps its own: a new one brings page faults and garbage collection. */
interface Side {
  readonly batch: Batch;
  readonly sequences: number;
  readonly rates: number[];
}

/** Decodes until all sequences have their tokens; prompts are not timed. @returns tokens per second */
async function lap({ batch, sequences }: Side, options: BatchBenchOptions): Promise<number> {
  const { prompts, tokens } = options;
  const { decodeSeconds } = batch;
  const { rows } = batch.tally;
  for (let s = 0; s < sequences; s++)
    batch.add({ prompt: prompts[s % prompts.length]!, maxTokens: tokens, ignoreEos: true, temperature: 0 });
  while (batch.pending > 0) await batch.step();
  return (batch.tally.rows - rows) / (batch.decodeSeconds - decodeSeconds);
}

function report({ batch: { tally }, rates }: Side, one: Side): BatchSide {
  return {
    tokensPerSecond: spread(rates),
    overOne: pairedRatio(rates, one.rates),
    unionDensity: tally.density("neurons"),
    headDensity: tally.density("heads"),
  };
}

/** One dense sequence, then all dense, then all under `selector`, in every round. */
export async function benchBatch(
  engine: Engine,
  selector: Selector,
  options: BatchBenchOptions,
): Promise<BatchBench> {
  const { sequences, rounds, onRound, signal } = options;
  const sides: Side[] = [];
  const open = (selected: Selector, maxSequences: number): Side => {
    const batch = new Batch(engine, { maxSequences, selector: selected, signal });
    const side = { batch, sequences: maxSequences, rates: [] };
    sides.push(side);
    return side;
  };
  try {
    const one = open(denseSelector, 1);
    const dense = open(denseSelector, sequences);
    const sparse = open(selector, sequences);
    for (let round = 0; round <= rounds; round++) {
      for (const side of sides) {
        const rate = await lap(side, options);
        if (round > 0) side.rates.push(rate);
      }
      onRound?.(round, rounds);
    }
    return {
      sequences,
      one: { tokensPerSecond: spread(one.rates) },
      dense: report(dense, one),
      sparse: report(sparse, one),
    };
  } finally {
    for (const { batch } of sides) batch.dispose();
  }
}

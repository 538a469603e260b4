/** Decoding speed, dense against sparse: interleaved rounds in one process, so that both see the same machine. */
import { type GenerateResult, generate, generateText } from "../generate.ts";
import { type Phase, phases } from "../kernels/contract.ts";
import type { Engine } from "../load.ts";
import { denseSelector } from "../sparsity/dense.ts";
import type { Selector } from "../sparsity/selector.ts";
import { quantile } from "../util/quantile.ts";
import { bytesPerToken } from "./bytes.ts";

export interface Spread {
  readonly median: number;
  readonly p25: number;
  readonly p75: number;
}

export interface Contestant {
  readonly engine: Engine;
  readonly selector: Selector;
}

export interface BenchOptions {
  /** Text, or ids. */
  readonly prompt: string | readonly number[];
  /** Tokens that each contestant generates in each round. */
  readonly tokens: number;
  /** Rounds counted; one more comes before them to warm up. */
  readonly rounds: number;
  /** Measures the memory's read rate in GB/s, in every round: the roof drifts with the machine. */
  readonly probe?: (() => number) | undefined;
  readonly onRound?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Side {
  readonly tokensPerSecond: Spread;
  /** Bytes of weights read for a token, the predictors' included. */
  readonly bytesPerToken: number;
  /** bytesPerToken · median tokens per second, in 10⁹. */
  readonly gigabytesPerSecond: number;
  /** Read rate over the probe's, round by round; null without a probe. */
  readonly shareOfProbe: Spread | null;
  /** Seconds per token, from a round of its own that is not timed otherwise. */
  readonly phases: Readonly<Record<Phase, number>>;
}

export interface SparseSide extends Side {
  /** Share of the time that goes to choosing what to compute. */
  readonly predictorShare: number;
  readonly mlpDensity: number;
  readonly headDensity: number;
}

export interface Bench {
  readonly tokens: number;
  readonly rounds: number;
  /** GB/s; null without a probe. */
  readonly probe: Spread | null;
  readonly dense: Side;
  readonly sparse: SparseSide;
  /** Sparse over dense, taken round by round. */
  readonly speedup: Spread;
}

/** Median and quartiles, interpolated between neighbours. */
export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  return { median: quantile(sorted, 0.5), p25: quantile(sorted, 0.25), p75: quantile(sorted, 0.75) };
}

/** Spread of a / b, pair by pair. */
export const pairedRatio = (a: readonly number[], b: readonly number[]): Spread =>
  spread(a.map((value, round) => value / b[round]!));

const request = ({ selector }: Contestant, { prompt, tokens, signal }: BenchOptions) => ({
  prompt,
  selector,
  maxTokens: tokens,
  temperature: 0,
  ignoreEos: true,
  signal,
});

export interface Lap {
  /** Of each round. */
  readonly tokensPerSecond: readonly number[];
  /** Of the last round. */
  readonly result: GenerateResult;
}

/**
 * Lets all contestants decode in every round, in an order that is reversed from round to round.
 * @param probed receives the probe's figure of each round
 */
export async function interleave(
  contestants: readonly Contestant[],
  options: BenchOptions,
  probed: number[] = [],
): Promise<Lap[]> {
  const laps = contestants.map(() => ({
    tokensPerSecond: [] as number[],
    result: null as GenerateResult | null,
  }));
  for (let round = 0; round <= options.rounds; round++) {
    const order = round % 2 === 0 ? [...contestants.keys()] : [...contestants.keys()].reverse();
    if (round > 0 && options.probe) probed.push(options.probe());
    for (const c of order) {
      const contestant = contestants[c]!;
      const result = await generateText(contestant.engine, request(contestant, options));
      laps[c]!.result = result;
      if (round > 0) laps[c]!.tokensPerSecond.push(result.tokensPerSecond);
    }
    options.onRound?.(round + 1, options.rounds + 1);
  }
  return laps.map(({ tokensPerSecond, result }) => ({ tokensPerSecond, result: result! }));
}

/** Seconds per decoded token by phase; the prompt is left out. */
export async function profile(
  contestant: Contestant,
  options: BenchOptions,
): Promise<Readonly<Record<Phase, number>>> {
  const { kernels } = contestant.engine;
  const run = generate(contestant.engine, request(contestant, options));
  await run.next(); // the prompt, and the token that follows from it
  kernels.startProfile();
  let step = await run.next();
  while (!step.done) step = await run.next();
  const seconds = await kernels.stopProfile();
  const decoded = Math.max(1, step.value.tally.rows);
  const perToken = phases.map((phase) => [phase, seconds[phase] / decoded] as const);
  return Object.fromEntries(perToken) as Record<Phase, number>;
}

/**
 * Measures decoding under the dense selector and under `sparse`.
 * @throws ContextOverflowError when prompt and tokens exceed the context; the signal's reason when aborted
 */
export async function bench(engine: Engine, sparse: Selector, options: BenchOptions): Promise<Bench> {
  const contestants = [
    { engine, selector: denseSelector },
    { engine, selector: sparse },
  ];
  const probed: number[] = [];
  const [denseLap, sparseLap] = (await interleave(contestants, options, probed)) as [Lap, Lap];
  const side = async (contestant: Contestant, { tokensPerSecond, result }: Lap): Promise<Side> => {
    const speed = spread(tokensPerSecond);
    const { touched } = bytesPerToken(engine.model, contestant.selector, result.tally);
    return {
      tokensPerSecond: speed,
      bytesPerToken: touched,
      gigabytesPerSecond: (touched * speed.median) / 1e9,
      shareOfProbe:
        probed.length > 0
          ? pairedRatio(
              tokensPerSecond.map((rate) => (rate * touched) / 1e9),
              probed,
            )
          : null,
      phases: await profile(contestant, options),
    };
  };
  const dense = await side(contestants[0]!, denseLap);
  const measured = await side(contestants[1]!, sparseLap);
  const total = phases.reduce((sum, phase) => sum + measured.phases[phase], 0);
  const { mlpDensity, headDensity } = sparseLap.result;
  return {
    tokens: options.tokens,
    rounds: options.rounds,
    probe: probed.length > 0 ? spread(probed) : null,
    dense,
    sparse: {
      ...measured,
      predictorShare: total > 0 ? measured.phases.predictor / total : 0,
      mlpDensity,
      headDensity,
    },
    speedup: pairedRatio(sparseLap.tokensPerSecond, denseLap.tokensPerSecond),
  };
}

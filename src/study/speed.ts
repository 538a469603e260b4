/** Where the time of a token goes, dense and sparse, by interleaved rounds. */
import { loadavg } from "node:os";
import {
  type BenchOptions,
  type Contestant,
  interleave,
  pairedRatio,
  profile,
  spread,
} from "../eval/bench.ts";
import { type Phase, phases } from "../kernels/contract.ts";
import type { Engine } from "../load.ts";
import { denseSelector } from "../sparsity/dense.ts";
import type { Speed } from "./schema.ts";
import type { StudySettings } from "./settings.ts";

type PhaseSeconds = Record<Phase, number>;

/** Rounds that are timed part by part. One could meet a busy machine and tell a story of its own. */
const profiledRounds = 5;

/** The median of each part over rounds in which the contestants take turns. */
async function profileAll(
  contestants: readonly Contestant[],
  rounds: number,
  run: BenchOptions,
  onRound: (done: number) => void,
): Promise<PhaseSeconds[]> {
  const timed = contestants.map(() => [] as Readonly<PhaseSeconds>[]);
  for (let round = 0; round < rounds; round++) {
    for (const [c, contestant] of contestants.entries()) timed[c]!.push(await profile(contestant, run));
    onRound(round + 1);
  }
  return timed.map((laps) => {
    const median = (phase: Phase) => spread(laps.map((lap) => lap[phase])).median;
    return Object.fromEntries(phases.map((phase) => [phase, median(phase)])) as PhaseSeconds;
  });
}

export interface SpeedOptions {
  readonly settings: StudySettings;
  readonly prompt: string;
  readonly hasBundle: boolean;
  readonly onProgress: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Dense and predicted by the bundle's policy; dense alone where there is no bundle. */
export async function measureSpeed(engine: Engine, options: SpeedOptions): Promise<Speed> {
  const { settings, prompt, hasBundle, onProgress, signal } = options;
  const room = engine.model.shape.maxPositions - engine.tokenizer.encode(prompt).length;
  const tokens = Math.min(settings.benchTokens, room);
  const rounds = settings.benchRounds;
  const loadBefore = loadavg()[0]!;
  const profiled = Math.min(profiledRounds, rounds);
  const selector = hasBundle ? await engine.selector("predicted") : null;
  const contestants = [denseSelector, ...(selector === null ? [] : [selector])].map((one) => ({
    engine,
    selector: one,
  }));
  const onRound = (done: number, total: number) => onProgress(done, total + profiled);
  const run: BenchOptions = { prompt, tokens, rounds, onRound, signal };
  try {
    const laps = await interleave(contestants, run);
    const parts = await profileAll(contestants, profiled, run, (done) =>
      onProgress(rounds + 1 + done, rounds + 1 + profiled),
    );
    const side = (c: number) => ({
      tokensPerSecond: { ...spread(laps[c]!.tokensPerSecond) },
      phases: parts[c]!,
    });
    const settled = { tokens, rounds, profiledRounds: profiled, prompt, loadBefore, dense: side(0) };
    if (selector === null) return { ...settled, sparse: null, speedup: null };
    const speedup = pairedRatio(laps[1]!.tokensPerSecond, laps[0]!.tokensPerSecond);
    return { ...settled, sparse: side(1), speedup: { ...speedup } };
  } finally {
    selector?.dispose();
  }
}

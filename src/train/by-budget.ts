/** Decides how much to compute by a budget of perplexity. */
import { countIds } from "../eval/documents.ts";
import type { Engine } from "../load.ts";
import { cheapestWithin, type SearchRecord } from "../sparsity/curve.ts";
import type { Predictors } from "../sparsity/predictor.ts";
import type { UnitKind } from "../sparsity/selector.ts";
import { UsageError } from "../util/errors.ts";
import { type ChosenRanks, chooseRanks, rankVariants } from "./choose-ranks.ts";
import type { Decision, Progress } from "./decided.ts";
import type { Halves } from "./held-out.ts";
import { type Ladder, laddersOf } from "./ladder.ts";
import { type Prepared, predictorOnDevice } from "./prepared-layer.ts";
import {
  bestUniform,
  type MeasuredLadder,
  type Measurement,
  measureLadders,
  type TracedPoint,
  traceCurve,
} from "./search.ts";
import { Trials } from "./trials.ts";

const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;

function chosenPoint(curve: readonly TracedPoint[], budget: number): TracedPoint {
  const chosen = cheapestWithin(curve, budget) as TracedPoint | undefined;
  if (chosen !== undefined) return chosen;
  const best = curve[0] && `; the best of ${curve.length} policies loses ${percent(curve[0].quality)}`;
  throw new UsageError(
    `maxPerplexityIncrease is ${budget}, and no policy that skips anything stays within it on held-out text${best ?? ""}. Allow more, or train better predictors with a higher rank, more epochs or more rows`,
  );
}

/** The ladders of all variants, measured, and what that tells about ranks. */
async function settleRanks(
  measurement: Measurement,
  variants: readonly Prepared[],
  predictors: readonly Predictors[],
  report: (share: number) => void,
): Promise<ChosenRanks> {
  const measured: MeasuredLadder[][] = [];
  for (const [i, variant] of variants.entries()) {
    const trials = measurement.trials.of(predictors[i]!);
    const onShare = (share: number) => report((i + share) / variants.length);
    measured.push(await measureLadders({ ...measurement, trials }, laddersOf(variant), onShare));
  }
  return chooseRanks(measured, Math.log1p(measurement.budget));
}

function calibrationOf(chosen: TracedPoint, ladders: readonly Ladder[], prepared: Prepared) {
  const layersOf = (unit: UnitKind) =>
    chosen.rungs
      .filter((_, i) => ladders[i]!.unit === unit)
      .map(({ density, recall, precision }, layer) => ({
        rank: prepared[unit][layer]!.parameters?.rank ?? 0,
        density,
        recall,
        precision,
      }));
  const { densePerplexity: dense, perplexity: predicted } = chosen.score;
  // The perplexity as the half saw it that thresholds and search did not.
  return { heads: layersOf("heads"), neurons: layersOf("neurons"), perplexity: { dense, predicted } };
}

function searchRecord(
  { trials, halves, budget }: Measurement,
  { score }: TracedPoint,
  uniform: SearchRecord["uniform"],
): SearchRecord {
  const { calibrated, reported } = halves;
  return {
    maxPerplexityIncrease: budget,
    forwardTokens: trials.forwardTokens,
    documents: { calibrated: calibrated.length, reported: reported.length },
    tokens: { calibrated: countIds(calibrated), reported: countIds(reported) },
    dense: {
      bytesPerToken: score.bytesPerToken.dense,
      mlpBytesPerToken: score.bytesPerToken.mlp.dense,
      perplexity: score.densePerplexity,
    },
    uniform,
  };
}

/** @throws UsageError when nothing can be skipped within the budget */
export async function decideByBudget(
  engine: Engine,
  { prepared, halves, budget }: { prepared: Prepared; halves: Halves; budget: number },
  onProgress: Progress,
  signal: AbortSignal | undefined,
): Promise<Decision> {
  const variants = rankVariants(prepared);
  const devices = variants.map((variant) => predictorOnDevice(engine.kernels, variant));
  const predictors = devices.map((device) => device.predictors);
  const all = new Trials(engine, predictors[0]!, signal);
  try {
    const stage = (name: "layers" | "curve" | "uniform") => (share: number) => onProgress(name, share, 1);
    const start: Measurement = { engine, trials: all, halves, budget };
    const ranks = await settleRanks(start, variants, predictors, stage("layers"));
    const settled = ranks.pick(variants);
    const measurement = { ...start, trials: all.of(ranks.pick(predictors)) };
    const traced = await traceCurve(measurement, ranks.ladders, stage("curve"));
    const chosen = chosenPoint(traced, budget);
    const predictable = settled.neurons.map(({ parameters }) => parameters !== null);
    const uniform = await bestUniform(measurement, predictable, stage("uniform"));
    return {
      prepared: settled,
      policy: chosen.policy,
      calibration: calibrationOf(chosen, ranks.ladders, settled),
      curve: traced.map(({ rungs: _rungs, score: _score, ...point }) => point),
      search: searchRecord(measurement, chosen, uniform),
    };
  } finally {
    all.dispose();
    for (const device of devices) device.dispose();
  }
}

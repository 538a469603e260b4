/** Decides how much to compute by a budget of perplexity. */
import { countIds } from "../eval/documents.ts";
import type { Engine } from "../load.ts";
import { cheapestWithin } from "../sparsity/curve.ts";
import { UsageError } from "../util/errors.ts";
import type { Decided, Progress } from "./decided.ts";
import type { Halves } from "./held-out.ts";
import { laddersOf } from "./ladder.ts";
import { type Prepared, predictorOnDevice } from "./prepared-layer.ts";
import { bestUniform, type Measurement, measureLadders, type TracedPoint, traceCurve } from "./search.ts";
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

/** @throws UsageError when nothing can be skipped within the budget */
export async function decideByBudget(
  engine: Engine,
  prepared: Prepared,
  halves: Halves,
  budget: number,
  onProgress: Progress,
  signal: AbortSignal | undefined,
): Promise<Decided> {
  const device = predictorOnDevice(engine.kernels, prepared);
  try {
    const trials = new Trials(engine, device.predictors, signal);
    const measurement: Measurement = { engine, trials, halves, budget };
    const stage = (name: "layers" | "curve" | "uniform") => (share: number) => onProgress(name, share, 1);
    const ladders = await measureLadders(measurement, laddersOf(prepared), stage("layers"));
    const traced = await traceCurve(measurement, ladders, stage("curve"));
    const chosen = chosenPoint(traced, budget);
    const predictable = prepared.neurons.map(({ parameters }) => parameters !== null);
    const uniform = await bestUniform(measurement, predictable, stage("uniform"));
    const { score } = chosen;
    const layersOf = (unit: "heads" | "neurons") =>
      chosen.rungs
        .filter((_, i) => ladders[i]!.unit === unit)
        .map(({ density, recall, precision }, layer) => ({
          rank: prepared[unit][layer]!.parameters?.rank ?? 0,
          density,
          recall,
          precision,
        }));
    return {
      policy: chosen.policy,
      calibration: {
        heads: layersOf("heads"),
        neurons: layersOf("neurons"),
        // As the half saw it that thresholds and search did not.
        perplexity: { dense: score.densePerplexity, predicted: score.perplexity },
      },
      curve: traced.map(({ rungs: _rungs, score: _score, ...point }) => point),
      search: {
        maxPerplexityIncrease: budget,
        forwardTokens: trials.forwardTokens,
        documents: { calibrated: halves.calibrated.length, reported: halves.reported.length },
        tokens: { calibrated: countIds(halves.calibrated), reported: countIds(halves.reported) },
        dense: {
          bytesPerToken: score.bytesPerToken.dense,
          mlpBytesPerToken: score.bytesPerToken.mlp.dense,
          perplexity: score.densePerplexity,
        },
        uniform,
      },
    };
  } finally {
    device.dispose();
  }
}

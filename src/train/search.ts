/**
 * The search for a trade-off curve (decision 5). Each way to run each layer is measured alone, all else dense; the path
 * of most bytes saved per divergence spent is the curve; stops on it are measured jointly. Divergence ranks, because a
 * step that lowers perplexity by luck would always look cheap; perplexity and divergence decide how far to go.
 */
import type { Score } from "../eval/score.ts";
import type { Engine } from "../load.ts";
import { type CurvePoint, lossAgainstBudget, type SearchRecord } from "../sparsity/curve.ts";
import { densityPolicy, type LayerPolicy, type Policy, uniformPolicy } from "../sparsity/policy.ts";
import type { Halves } from "./held-out.ts";
import { denseRung, type Ladder, type Rung } from "./ladder.ts";
import {
  additiveLoss,
  type Choice,
  claimQualities,
  lastWithin,
  spacedStops,
  tradeOffPath,
} from "./trade-off.ts";
import type { Trial, Trials } from "./trials.ts";

/** The curve goes this far beyond the budget, and at least this far, for `--quality` to pick from. */
const reachOverBudget = 2;
const leastReach = 0.03;
/** Layers are measured on every fourth document: their order matters, not the last digit. */
const layerSample = 4;
/** Predicted divergence of the first stop, in nats, and how it grows from stop to stop. */
const leastLoss = 0.002;
const stopRatio = 1.35;

export interface Measurement {
  readonly engine: Engine;
  readonly trials: Trials;
  readonly halves: Halves;
  readonly budget: number;
}

/** Called with the share of a stage that is done. */
type Report = (share: number) => void;

export interface MeasuredRung extends Rung, Choice {}
export interface MeasuredLadder extends Ladder {
  readonly rungs: readonly MeasuredRung[];
}
export interface TracedPoint extends CurvePoint {
  readonly rungs: readonly MeasuredRung[];
  /** On the reported half. */
  readonly score: Score;
}

const dense: LayerPolicy = denseRung.policy;

/** The policy that runs each ladder at the rung given. */
function policyAt(layers: number, ladders: readonly Ladder[], rungs: readonly Rung[]): Policy {
  const policy = uniformPolicy(layers, dense, dense);
  for (const [i, { unit, layer }] of ladders.entries()) policy[unit][layer] = rungs[i]!.policy;
  return policy;
}

const reachOf = (budget: number): number => Math.max(leastReach, reachOverBudget * budget);

/** Measures every rung alone, down to where a layer diverges by more nats than the curve's reach. */
export async function measureLadders(
  { engine, trials, halves, budget }: Measurement,
  ladders: readonly Ladder[],
  report: Report,
): Promise<MeasuredLadder[]> {
  const { layers } = engine.model.shape;
  const sample = halves.calibrated.filter((_, i) => i % layerSample === 0);
  const worst = reachOf(budget);
  const denseBytes = (await trials.run(uniformPolicy(layers, dense, dense), sample)).bytesPerToken;
  const total = ladders.reduce((sum, { rungs }) => sum + rungs.length, 0);
  let done = 0;
  const measured: MeasuredLadder[] = [];
  for (const ladder of ladders) {
    const rungs: MeasuredRung[] = [{ ...ladder.rungs[0]!, bytes: denseBytes, loss: 0 }];
    for (const rung of ladder.rungs.slice(1)) {
      if (rungs.at(-1)!.loss > worst) break;
      const trial = await trials.runCheaperMode(policyAt(layers, [ladder], [rung]), sample);
      const { policy } = rung;
      const recall = policy.kind === "topK" ? trial.score.layers[ladder.layer]!.heads.recall : rung.recall;
      const precision = policy.kind === "topK" ? recall : rung.precision;
      rungs.push({ ...rung, recall, precision, bytes: trial.bytesPerToken, loss: trial.kl });
      report((done + rungs.length) / total);
    }
    done += ladder.rungs.length;
    report(done / total);
    measured.push({ ...ladder, rungs });
  }
  return measured;
}

const lossOf = ({ perplexityIncrease, kl }: Trial) => ({ perplexityIncrease, kl });

/** The way of each ladder at a stop of the path, and the policy that they make. */
interface Path {
  /** Loss of each stop if losses add up. */
  readonly losses: readonly number[];
  rungs(stop: number): readonly MeasuredRung[];
  policy(stop: number): Policy;
}

function pathThrough(layers: number, ladders: readonly MeasuredLadder[]): Path {
  const groups = ladders.map(({ rungs }) => rungs);
  const path = tradeOffPath(groups);
  const rungs = (stop: number) => path[stop]!.map((rung, i) => groups[i]![rung]!);
  return {
    losses: path.map((stop) => additiveLoss(groups, stop)),
    rungs,
    policy: (stop) => policyAt(layers, ladders, rungs(stop)),
  };
}

/** Runs stops of the path on the calibrated half, as far as the reach, and more of them close to the budget. */
async function calibrateStops(
  { trials, halves, budget }: Measurement,
  path: Path,
  report: Report,
): Promise<Map<number, Trial>> {
  const measured = new Map<number, Trial>();
  const lossAt = async (stop: number): Promise<number> => {
    const trial = await trials.runCheaperMode(path.policy(stop), halves.calibrated);
    measured.set(stop, trial);
    return lossAgainstBudget(trial);
  };
  const stops = spacedStops(path.losses, leastLoss, stopRatio);
  for (const [i, stop] of stops.entries()) {
    if ((await lossAt(stop)) > reachOf(budget)) break;
    report((i + 1) / (stops.length + 1));
  }
  const known = [...measured.keys()];
  const beyond = known.find((stop) => lossAgainstBudget(measured.get(stop)!) > budget) ?? known.at(-1);
  if (beyond !== undefined)
    await lastWithin(known.filter((stop) => stop < beyond).at(-1) ?? 0, beyond, budget, lossAt);
  return measured;
}

/** Follows the path from the dense end to the reach, and measures stops on both halves. */
export async function traceCurve(
  measurement: Measurement,
  ladders: readonly MeasuredLadder[],
  report: Report,
): Promise<TracedPoint[]> {
  const { engine, trials, halves } = measurement;
  const path = pathThrough(engine.model.shape.layers, ladders);
  const calibrated = await calibrateStops(measurement, path, (share) => report(share / 2));
  const points: Omit<TracedPoint, "quality">[] = [];
  for (const [stop, trial] of [...calibrated].sort(([a], [b]) => a - b)) {
    report(0.5 + (0.5 * points.length) / calibrated.size);
    const rungs = path.rungs(stop);
    const { policy } = trial;
    const reported = await trials.run(policy, halves.reported);
    const density = (unit: Ladder["unit"]) =>
      rungs.filter((_, i) => ladders[i]!.unit === unit).map((rung) => rung.density);
    points.push({
      policy,
      densities: { heads: density("heads"), neurons: density("neurons") },
      bytesPerToken: trial.bytesPerToken,
      mlpBytesPerToken: trial.mlpBytesPerToken,
      calibrated: lossOf(trial),
      reported: lossOf(reported),
      rungs,
      score: reported.score,
    });
  }
  report(1);
  return claimQualities(points);
}

/** What one density for all layers would do: the lowest whose top-k in every layer stays within the budget. */
export async function bestUniform(
  { engine, trials, halves, budget }: Measurement,
  predictable: readonly boolean[],
  report: Report,
): Promise<SearchRecord["uniform"]> {
  const { layers, ffnDim } = engine.model.shape;
  const policyOf = (percent: number): Policy => {
    const neurons = predictable.map((is) => (is ? densityPolicy(percent / 100, ffnDim) : dense));
    return { ...uniformPolicy(layers, dense, dense), neurons };
  };
  const found = new Map<number, Trial>();
  // From 100 % down: the losses grow with the index.
  const index = await lastWithin(0, 100, budget, async (down) => {
    report(found.size / 8);
    const trial = await trials.run(policyOf(100 - down), halves.calibrated);
    found.set(down, trial);
    return lossAgainstBudget(trial);
  });
  const trial = found.get(index);
  if (trial === undefined) {
    report(1);
    return null;
  }
  const reported = await trials.run(policyOf(100 - index), halves.reported);
  report(1);
  const { bytesPerToken, mlpBytesPerToken } = trial;
  return {
    density: (100 - index) / 100,
    bytesPerToken,
    mlpBytesPerToken,
    calibrated: lossOf(trial),
    reported: lossOf(reported),
  };
}

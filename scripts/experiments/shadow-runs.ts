/** What the comparison of one predictor for all blocks with one per layer is made of: training, and runs at equal density. */
import { score } from "../../src/eval/score.ts";
import { blockRows } from "../../src/models/feed.ts";
import { createRng } from "../../src/sampling/rng.ts";
import { staticScorer } from "../../src/sparsity/fixed.ts";
import { densityPolicy, type LayerPolicy, type Policy } from "../../src/sparsity/policy.ts";
import { type PredictorKind, predictedScorer } from "../../src/sparsity/predictor.ts";
import {
  type PredictorSource,
  ScoredSelector,
  type Scorer,
  type Selector,
  type UnitKind,
} from "../../src/sparsity/selector.ts";
import { meanValues } from "../../src/train/batches.ts";
import type { Parameters } from "../../src/train/factors.ts";
import { squareLoss } from "../../src/train/loss.ts";
import { partOf } from "../../src/train/prepare-shadow.ts";
import { predictorOnDevice, uncut } from "../../src/train/prepared-layer.ts";
import type { Rows } from "../../src/train/rows.ts";
import { trainEpochs } from "../../src/train/train-predictor.ts";
import { share } from "./markdown.ts";
import { type Importances, joined, type Target } from "./shadow-targets.ts";
import { startOf } from "./variants.ts";
import type { Workbench } from "./workbench.ts";

const epochs = 8;

/** Layers that are predicted; block 0, which the one predictor waits for, is dense for all. */
export const layersOf = (bench: Workbench) =>
  Array.from({ length: bench.engine.model.shape.layers - 1 }, (_, i) => i + 1);

/** A network trained from random weights: Deja Vu's loss for `active`, the mean square for importances. */
export async function train(
  bench: Workbench,
  rows: Rows,
  rank: number,
  target: Target,
  between: "none" | "relu",
): Promise<Parameters> {
  const rng = createRng(3);
  const options = {
    epochs,
    batchSize: 128,
    learningRate: target === "active" ? 3e-3 : 1e-3,
    weightDecay: 0.01,
    lossFloor: 0.005,
    between,
    ...(target !== "active" && { loss: squareLoss(rows) }),
  };
  const { kernels } = bench.engine;
  const start = await startOf(bench, rows, 1, rank, "random");
  const nextInt = (n: number) => rng.nextInt(n);
  return trainEpochs(kernels, rows, start, options, nextInt, () => {});
}

const dense: LayerPolicy = { kind: "dense" };

/** The same top-k in all layers but the first, of one kind of unit. */
function policyOf(bench: Workbench, unit: UnitKind, density: number): Policy {
  const { layers, heads, ffnDim } = bench.engine.model.shape;
  const topK = densityPolicy(density, unit === "heads" ? heads : ffnDim);
  const sparse = Array.from({ length: layers }, (_, l) => (l === 0 ? dense : topK));
  const all: LayerPolicy[] = Array(layers).fill(dense);
  return unit === "heads"
    ? { attention: "dense-kv", heads: sparse, neurons: all }
    : { attention: "dense-kv", heads: all, neurons: sparse };
}

/** Runs a selector at every density; cells of a table. */
async function cells(
  bench: Workbench,
  unit: UnitKind,
  densities: readonly number[],
  make: (policy: Policy) => Selector,
): Promise<string[]> {
  const row: string[] = [];
  for (const density of densities) {
    const selector = make(policyOf(bench, unit, density));
    const result = await score(bench.engine, bench.check, selector);
    selector.dispose();
    row.push(`${share(result.perplexity / result.densePerplexity - 1)} (${result.kl.toFixed(3)})`);
  }
  return row;
}

/** Predictors of the layers but block 0, as a bundle would run them: one each, or parts of the one that reads block 0. */
function predictorScorer(
  bench: Workbench,
  unit: UnitKind,
  parameters: readonly Parameters[],
  kind: PredictorKind,
): Scorer {
  const { kernels, model } = bench.engine;
  const { heads, ffnDim } = model.shape;
  const ownSource = (of: UnitKind): PredictorSource => (of === "heads" ? "attention-input" : "mlp-input");
  const prepared = (of: UnitKind) =>
    [null, ...parameters].map((p) => ({
      units: of === "heads" ? heads : ffnDim,
      source: kind === "shadow" ? ("first-block" as const) : ownSource(of),
      parameters: of === unit ? p : null,
      ...uncut,
      alternatives: [],
      score: new Float32Array(0),
    }));
  const device = predictorOnDevice(kernels, { heads: prepared("heads"), neurons: prepared("neurons") });
  const scorer = predictedScorer(kernels, device.predictors, blockRows);
  const dispose = () => {
    scorer.dispose();
    device.dispose();
  };
  return { ...scorer, dispose };
}

/** Static sets by the mean of what each layer's rows say of its units. */
export async function staticOf(
  bench: Workbench,
  unit: UnitKind,
  rowsOf: (layer: number) => Promise<Rows>,
): Promise<Scorer> {
  const means: Float32Array[] = [];
  for (let l = 0; l < bench.engine.model.shape.layers; l++) means.push(meanValues(await rowsOf(l)));
  const statistics = unit === "heads" ? { heads: means, neurons: [] } : { heads: [], neurons: means };
  return staticScorer(bench.engine.kernels, statistics, blockRows);
}

export type Report = (
  name: string,
  parameters: number | null,
  make: (policy: Policy) => Selector,
) => Promise<void>;

export function reporter(
  bench: Workbench,
  unit: UnitKind,
  densities: readonly number[],
  rows: string[][],
): Report {
  return async (name, parameters, make) => {
    const began = performance.now();
    const row = await cells(bench, unit, densities, make);
    rows.push([name, parameters === null ? "–" : `${Math.round(parameters / 1000)} k`, ...row]);
    console.error(`${name}: ${row.join(", ")}; ${((performance.now() - began) / 1000).toFixed(0)} s`);
  };
}

const weightsOf = (list: readonly Parameters[]): number =>
  list.reduce((sum, p) => sum + (p.down?.length ?? 0) + p.up.length + p.bias.length, 0);

/** Trains one network per layer and reports it. */
export async function reportPerLayer(
  bench: Workbench,
  report: Report,
  unit: UnitKind,
  name: string,
  make: (layer: number) => Promise<Parameters>,
) {
  const list: Parameters[] = [];
  for (const layer of layersOf(bench)) list.push(await make(layer));
  const { kernels } = bench.engine;
  await report(name, weightsOf(list), (policy) => {
    const scorer = predictorScorer(bench, unit, list, "per-layer");
    return new ScoredSelector("predicted", kernels, scorer, policy);
  });
}

/** Trains one network for all layers, which reads block 0's mlp-input, and reports it. */
export async function reportOne(
  bench: Workbench,
  report: Report,
  found: Importances,
  unit: UnitKind,
  name: string,
  hidden: number,
  target: Target,
) {
  const base = await bench.rows(0, "mlp-input");
  const rows = await joined(bench, base, found, unit, target, layersOf(bench));
  const parameters = await train(bench, rows, hidden, target, "relu");
  const { kernels, model } = bench.engine;
  const units = unit === "heads" ? model.shape.heads : model.shape.ffnDim;
  const parts = layersOf(bench).map((_, i) => partOf(parameters, i, units));
  await report(name, weightsOf([parameters]), (policy) => {
    const scorer = predictorScorer(bench, unit, parts, "shadow");
    return new ScoredSelector("predicted", kernels, scorer, policy);
  });
}

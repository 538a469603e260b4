/**
 * Makes ShadowLLM's predictors (Akhauri et al. 2024): for each kind of unit one network, which reads the mlp-input of
 * block 0 and scores the units of all layers it is known before. Heads learn their importance, as ShadowLLM has it.
 * Neurons learn whether they are active: of a neuron's importance a network learns little but the mean (decision 7).
 */
import type { Engine } from "../load.ts";
import type { Rng } from "../sampling/rng.ts";
import { isPredictable } from "../sparsity/bundle.ts";
import type { UnitKind } from "../sparsity/selector.ts";
import { meanValues } from "./batches.ts";
import { calibrateNeurons } from "./calibrate-neurons.ts";
import { type Parameters, randomParameters } from "./factors.ts";
import { type HeadImportance, withImportance } from "./head-importance.ts";
import { isCalibrated } from "./held-out.ts";
import { squareLoss } from "./loss.ts";
import type { ResolvedPrepareOptions } from "./prepare-options.ts";
import { type Prepared, type PreparedLayer, uncut } from "./prepared-layer.ts";
import { loadRows, type Rows } from "./rows.ts";
import { type TrainOptions, trainEpochs, trainPredictor } from "./train-predictor.ts";

const source = "first-block";
const between = "relu";
/** Rows of importances are few, and their rate is ShadowLLM's. */
const headTraining = { epochs: 8, batchSize: 128, learningRate: 1e-3 };

export interface ShadowJob {
  readonly engine: Engine;
  /** Where the captured rows are. */
  readonly folder: string;
  readonly options: ResolvedPrepareOptions;
  readonly importance: HeadImportance;
  readonly rng: Rng;
  /** Called with the share that is done, after each step. */
  readonly report: (share: number) => void;
  /** Awaited after each step; throws to stop. */
  readonly breathe: () => Promise<void> | undefined;
}

/** Rows whose units are those of several layers, one layer after the other; inputs and split are the first one's. */
export function joinLayers(perLayer: readonly Rows[]): Rows {
  const first = perLayer[0]!;
  const { units } = first;
  const values = perLayer.map(({ value }) => value);
  const value = (row: number, u: number) => values[Math.floor(u / units)]!(row, u % units);
  return { ...first, units: units * perLayer.length, value };
}

/** What a network of several layers' units says of the `number`-th of them; `down` stays in common. */
export function partOf({ rank, down, up, bias }: Parameters, number: number, units: number): Parameters {
  const [start, end] = [number * units, (number + 1) * units];
  return { rank, down, up: up.subarray(start * rank, end * rank), bias: bias.subarray(start, end) };
}

export async function prepareShadow(job: ShadowJob): Promise<{ prepared: Prepared; heldOutRows: number }> {
  const heads = await prepareHeads(job);
  const { layers: neurons, heldOutRows } = await prepareNeurons(job);
  return { prepared: { heads, neurons }, heldOutRows };
}

/** Of every layer, with block 0's mlp-input as the input. */
async function loadLayers({ engine, folder, options }: ShadowJob, unit: UnitKind): Promise<Rows[]> {
  const { layers, heads, ffnDim } = engine.model.shape;
  const { fingerprint } = await engine.identity();
  const mayLook = options.maxPerplexityIncrease === undefined ? undefined : isCalibrated;
  const units = unit === "heads" ? heads : ffnDim;
  const all: Rows[] = [];
  for (let layer = 0; layer < layers; layer++) {
    const rows = await loadRows(folder, layer, unit, units, source, fingerprint, mayLook);
    all.push({ ...rows, inputs: all[0]?.inputs ?? rows.inputs });
  }
  return all;
}

/** A start and the means to report steps, for a network that predicts `rows`. */
function begin({ options, rng, report, breathe }: ShadowJob, rows: Rows, train: TrainOptions, share: number) {
  const { units, width } = rows;
  const start = randomParameters(options.hidden, units, width, () => rng.next());
  const size = Math.min(train.batchSize, rows.train.length);
  const total = Math.max(1, train.epochs * Math.floor(rows.train.length / size));
  let step = 0;
  const onStep = () => {
    step += 1;
    report(share + step / total / 2);
    return breathe();
  };
  return { start, onStep, nextInt: (n: number) => rng.nextInt(n) };
}

async function prepareHeads(job: ShadowJob): Promise<PreparedLayer[]> {
  const { kernels } = job.engine;
  const perLayer = (await loadLayers(job, "heads")).map((rows, layer) =>
    withImportance(rows, job.importance, layer),
  );
  const possible = perLayer.filter((_, layer) => isPredictable(source, "heads", layer));
  const { units } = perLayer[0]!;
  let parameters: Parameters | null = null;
  if (possible.length > 0) {
    const rows = joinLayers(possible);
    const train = {
      ...headTraining,
      weightDecay: 0.01,
      lossFloor: 0,
      between,
      loss: squareLoss(rows),
    } as const;
    const { start, onStep, nextInt } = begin(job, rows, train, 0);
    parameters = await trainEpochs(kernels, rows, start, train, nextInt, onStep);
  }
  const first = perLayer.length - possible.length;
  return perLayer.map((rows, layer) => ({
    units,
    source,
    parameters: layer < first ? null : partOf(parameters!, layer - first, units),
    ...uncut,
    alternatives: [],
    score: meanValues(rows),
  }));
}

async function prepareNeurons(job: ShadowJob): Promise<{ layers: PreparedLayer[]; heldOutRows: number }> {
  const { kernels } = job.engine;
  const { epochs, batchSize, learningRate, recall, maxPerplexityIncrease } = job.options;
  const perLayer = await loadLayers(job, "neurons");
  const rows = joinLayers(perLayer);
  const train = {
    epochs,
    batchSize,
    learningRate,
    weightDecay: 0.01,
    lossFloor: 0.005,
    recall,
    between,
  } as const;
  const { start, onStep, nextInt } = begin(job, rows, train, 0.5);
  const { parameters } = await trainPredictor(kernels, rows, start, train, nextInt, onStep);
  const layers: PreparedLayer[] = [];
  for (const [layer, one] of perLayer.entries()) {
    const part = partOf(parameters, layer, one.units);
    const isSearched = maxPerplexityIncrease !== undefined;
    const points = await calibrateNeurons(kernels, one, part, recall, isSearched, between);
    const score = meanValues(one);
    layers.push({ units: one.units, source, parameters: part, ...points, alternatives: [], score });
    await job.breathe();
  }
  return { layers, heldOutRows: rows.heldOut.length };
}

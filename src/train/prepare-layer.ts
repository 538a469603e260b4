/** Makes and calibrates the predictor of one layer's heads or neurons. */
import type { Engine } from "../load.ts";
import type { Rng } from "../sampling/rng.ts";
import type { Source, UnitKind } from "../sparsity/selector.ts";
import { meanValues } from "./batches.ts";
import { calibrateNeurons } from "./calibrate-neurons.ts";
import { type Factors, type Parameters, parameterBytes, truncate } from "./factors.ts";
import { type HeadImportance, withImportance } from "./head-importance.ts";
import { regressHeads } from "./head-regression.ts";
import { isCalibrated } from "./held-out.ts";
import { lowRankFactors } from "./initialise.ts";
import { fc1OfGuess } from "./lookahead-start.ts";
import type { ResolvedPrepareOptions } from "./prepare-options.ts";
import type { PreparedLayer } from "./prepared-layer.ts";
import { loadRows, type Rows } from "./rows.ts";
import { type RecallOptions, trainPredictor } from "./train-predictor.ts";

/** Ranks tried: the one asked for over these. */
const rankDivisors = [1, 2, 4, 8];

/** Of units whose logits no threshold cuts: heads, and what is always dense. */
export const uncut = {
  point: { threshold: 0, density: 1, recall: 1, precision: 1 },
  ladder: [],
  raised: new Map<number, readonly number[]>(),
};

export interface LayerJob {
  readonly engine: Engine;
  /** Where the captured rows are. */
  readonly folder: string;
  readonly layer: number;
  readonly unit: UnitKind;
  readonly source: Source;
  readonly options: ResolvedPrepareOptions;
  /** What heads are worth; null where the norm of their outputs says it. */
  readonly importance: HeadImportance | null;
  readonly rng: Rng;
  /** Called with the share that is done, after each step. */
  readonly report: (share: number) => void;
  /** Awaited after each step; throws to stop. */
  readonly breathe: () => Promise<void> | undefined;
}

export async function prepareLayer(job: LayerJob): Promise<{ layer: PreparedLayer; heldOutRows: number }> {
  const { engine, folder, layer, unit, source } = job;
  const { heads, ffnDim } = engine.model.shape;
  const units = unit === "heads" ? heads : ffnDim;
  const { fingerprint } = await engine.identity();
  const isPossible = !(layer === 0 && source === "previous-block");
  const available = isPossible ? source : "attention-input";
  const isSearched = job.options.maxPerplexityIncrease !== undefined;
  const mayLook = isSearched ? isCalibrated : undefined;
  const rows = await loadRows(folder, layer, unit, units, available, fingerprint, mayLook);
  const { importance } = job;
  const known = unit === "heads" && importance !== null ? withImportance(rows, importance, layer) : rows;
  const base = { units, source, score: meanValues(known) };
  const heldOutRows = rows.heldOut.length;
  await job.breathe();
  if (!isPossible) return { layer: { ...base, parameters: null, ...uncut }, heldOutRows };
  if (unit === "heads") {
    const parameters = await regressHeads(engine.kernels, known);
    return { layer: { ...base, parameters, ...uncut }, heldOutRows };
  }
  const parameters = await trainNeurons(job, rows);
  const { recall } = job.options;
  const points = await calibrateNeurons(engine.kernels, rows, parameters, recall, isSearched);
  return { layer: { ...base, parameters, ...points }, heldOutRows };
}

async function trainNeurons(job: LayerJob, rows: Rows): Promise<Parameters> {
  const { engine, options, rng } = job;
  const train = {
    epochs: options.epochs,
    batchSize: options.batchSize,
    learningRate: options.learningRate,
    weightDecay: 0.01,
    lossFloor: 0.005,
    recall: options.recall,
  };
  const stepsPerEpoch = Math.floor(rows.train.length / Math.min(options.batchSize, rows.train.length));
  const trialEpochs = rankDivisors.length * Math.min(1, options.epochs);
  const total = Math.max(1, (options.epochs + trialEpochs) * stepsPerEpoch);
  let step = 0;
  const onStep = (): void | Promise<void> => {
    step += 1;
    job.report(step / total);
    return job.breathe();
  };
  const start = await startingPoint(job, rows, train, onStep);
  const nextInt = (n: number) => rng.nextInt(n);
  return (await trainPredictor(engine.kernels, rows, start, train, nextInt, onStep)).parameters;
}

/**
 * The cheapest low-rank start: of the rank asked for, its half, quarter and eighth, the one that touches the fewest
 * bytes of weights at the wanted recall after one epoch of training, its own included.
 */
async function startingPoint(
  job: LayerJob,
  rows: Rows,
  train: RecallOptions,
  onStep: () => void | Promise<void>,
): Promise<Parameters> {
  const { engine, layer, options, rng } = job;
  const { kernels, model } = engine;
  const { perNeuron, perActive } = model.weightBytes;
  const { weight, bias } = model.neuronRows(layer);
  const biasValues = new Float32Array(rows.units);
  if (bias !== null) await kernels.read(bias, biasValues);
  const maxRank = Math.min(options.rank, rows.width, rows.units);
  const next = () => rng.next();
  let factors: Factors;
  if (job.source === "mlp-input")
    factors = await lowRankFactors(kernels, rows, weight, biasValues, maxRank, next);
  else {
    const target = await loadRows(
      job.folder,
      layer,
      "neurons",
      rows.units,
      "mlp-input",
      (await engine.identity()).fingerprint,
    );
    const guess = await fc1OfGuess(kernels, rows, target, weight, biasValues);
    factors = await lowRankFactors(kernels, rows, guess.weight, guess.offset, maxRank, next);
    kernels.free(guess.weight);
  }
  const trial = { ...train, epochs: Math.min(1, train.epochs) };
  let best: { parameters: Parameters; bytes: number } | null = null;
  for (const divisor of rankDivisors) {
    const parameters = truncate(factors, Math.max(1, Math.round(maxRank / divisor)));
    const { point } = await trainPredictor(kernels, rows, parameters, trial, (n) => rng.nextInt(n), onStep);
    const chosen = point.density * rows.units;
    const bytes =
      parameterBytes(parameters.rank, rows.units, rows.width) +
      chosen * (perNeuron + point.precision * perActive);
    if (best === null || bytes < best.bytes) best = { parameters, bytes };
  }
  return best!.parameters;
}

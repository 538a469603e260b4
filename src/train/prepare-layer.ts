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
import { type PreparedLayer, type PreparedPredictor, uncut } from "./prepared-layer.ts";
import { loadRows, type Rows } from "./rows.ts";
import { type RecallOptions, trainPredictor } from "./train-predictor.ts";

/** Ranks tried: the one asked for over these. */
const rankDivisors = [1, 2, 4, 8];
/** Of those, the best so many are trained to the end, where a search is to choose among them. */
const ranksSearched = 2;

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
  const base = { units, source, score: meanValues(known), alternatives: [] };
  const heldOutRows = rows.heldOut.length;
  await job.breathe();
  if (!isPossible) return { layer: { ...base, parameters: null, ...uncut }, heldOutRows };
  if (unit === "heads") {
    const parameters = await regressHeads(engine.kernels, known);
    return { layer: { ...base, parameters, ...uncut }, heldOutRows };
  }
  const predictors: PreparedPredictor[] = [];
  for (const parameters of await trainNeurons(job, rows, isSearched ? ranksSearched : 1)) {
    const points = await calibrateNeurons(engine.kernels, rows, parameters, job.options.recall, isSearched);
    predictors.push({ parameters, ...points });
  }
  const [best, ...alternatives] = predictors;
  return { layer: { ...base, ...best!, alternatives }, heldOutRows };
}

/** Predictors of the best `count` ranks, the best first. */
async function trainNeurons(job: LayerJob, rows: Rows, count: number): Promise<Parameters[]> {
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
  const ranks = Math.min(count, rankDivisors.length);
  const total = Math.max(1, (ranks * options.epochs + trialEpochs) * stepsPerEpoch);
  let step = 0;
  const onStep = (): void | Promise<void> => {
    step += 1;
    job.report(step / total);
    return job.breathe();
  };
  const starts = await startingPoints(job, rows, train, onStep);
  const nextInt = (n: number) => rng.nextInt(n);
  const trained: Parameters[] = [];
  for (const start of starts.slice(0, ranks))
    trained.push((await trainPredictor(engine.kernels, rows, start, train, nextInt, onStep)).parameters);
  return trained;
}

/**
 * Low-rank starts of the rank asked for, its half, quarter and eighth, the cheapest first: the one that touches the fewest
 * bytes of weights at the wanted recall after one epoch of training, its own included.
 */
async function startingPoints(
  job: LayerJob,
  rows: Rows,
  train: RecallOptions,
  onStep: () => void | Promise<void>,
): Promise<Parameters[]> {
  const { engine, options, rng } = job;
  const { perNeuron, perActive } = engine.model.weightBytes;
  const maxRank = Math.min(options.rank, rows.width, rows.units);
  const factors = await lowRankStart(job, rows, maxRank);
  const trial = { ...train, epochs: Math.min(1, train.epochs) };
  const ranks = new Set(rankDivisors.map((divisor) => Math.max(1, Math.round(maxRank / divisor))));
  const starts: { parameters: Parameters; bytes: number }[] = [];
  for (const rank of ranks) {
    const parameters = truncate(factors, rank);
    const nextInt = (n: number) => rng.nextInt(n);
    const { point } = await trainPredictor(engine.kernels, rows, parameters, trial, nextInt, onStep);
    const chosen = point.density * rows.units;
    const own = parameterBytes(rank, rows.units, rows.width);
    starts.push({ parameters, bytes: own + chosen * (perNeuron + point.precision * perActive) });
  }
  return starts.sort((a, b) => a.bytes - b.bytes).map(({ parameters }) => parameters);
}

/** The best stand-in of rank `maxRank` for fc1, or for fc1 of what can be guessed of its input. */
async function lowRankStart(job: LayerJob, rows: Rows, maxRank: number): Promise<Factors> {
  const { engine, layer, rng } = job;
  const { kernels, model } = engine;
  const { weight, bias } = model.neuronRows(layer);
  const biasValues = new Float32Array(rows.units);
  if (bias !== null) await kernels.read(bias, biasValues);
  const next = () => rng.next();
  if (job.source === "mlp-input") return lowRankFactors(kernels, rows, weight, biasValues, maxRank, next);
  const { fingerprint } = await engine.identity();
  const target = await loadRows(job.folder, layer, "neurons", rows.units, "mlp-input", fingerprint);
  const guess = await fc1OfGuess(kernels, rows, target, weight, biasValues);
  try {
    return await lowRankFactors(kernels, rows, guess.weight, guess.offset, maxRank, next);
  } finally {
    kernels.free(guess.weight);
  }
}

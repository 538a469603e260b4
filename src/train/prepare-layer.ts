/** Trains and calibrates the predictor of one layer's heads or neurons. */
import type { Engine } from "../load.ts";
import type { Rng } from "../sampling/rng.ts";
import type { Source, UnitKind } from "../sparsity/selector.ts";
import { frequencies } from "./batches.ts";
import { type Parameters, parameterBytes, truncate } from "./factors.ts";
import { lowRankFactors } from "./initialise.ts";
import type { ResolvedPrepareOptions } from "./prepare-options.ts";
import type { PreparedLayer } from "./prepared-layer.ts";
import { loadRows, type Rows } from "./rows.ts";
import { type TrainOptions, trainPredictor } from "./train-predictor.ts";

/** Deja Vu labels as true the heads among this share of the largest norms (main_att.py's default). */
const headShare = 0.7;

/** Ranks tried: the one asked for over these. */
const rankDivisors = [1, 2, 4, 8];

const densePoint = { threshold: 0, density: 1, recall: 1, precision: 1 };

export async function prepareLayer(
  engine: Engine,
  folder: string,
  layer: number,
  unit: UnitKind,
  source: Source,
  options: ResolvedPrepareOptions,
  rng: Rng,
  report: (share: number) => void,
  breathe: () => Promise<void> | undefined,
): Promise<{ layer: PreparedLayer; heldOutRows: number }> {
  const { kernels, model } = engine;
  const units = unit === "heads" ? model.shape.heads : model.shape.ffnDim;
  const { sha256 } = await engine.identity();
  const isPossible = !(layer === 0 && source === "previous-block");
  const rows = await loadRows(
    folder,
    layer,
    unit,
    units,
    isPossible ? source : "attention-input",
    sha256,
    headShare,
  );
  const frequency = frequencies(rows);
  const heldOutRows = rows.heldOut.length;
  if (!isPossible)
    return { layer: { units, source, parameters: null, point: densePoint, frequency }, heldOutRows };
  const train: TrainOptions = {
    epochs: options.epochs,
    batchSize: options.batchSize,
    learningRate: options.learningRate,
    weightDecay: 0.01,
    lossFloor: unit === "heads" ? 0 : 0.005,
    recall: options.recall,
  };
  const total =
    options.epochs * Math.floor(rows.train.length / Math.min(options.batchSize, rows.train.length));
  let step = 0;
  const onStep = (): void | Promise<void> => {
    report(++step / total);
    return breathe();
  };
  const start =
    unit === "heads"
      ? blankParameters(rows)
      : await startingPoint(engine, layer, rows, options, train, rng, onStep);
  const trained = await trainPredictor(kernels, rows, start, train, (n) => rng.nextInt(n), onStep);
  const { parameters, point } = trained;
  return { layer: { units, source, parameters, point, frequency }, heldOutRows };
}

/** Heads are few: one matrix [heads, hidden_size] costs less than two factors, and its loss is convex. */
function blankParameters(rows: Rows): Parameters {
  const { units, width } = rows;
  return { rank: 0, down: null, up: new Float32Array(units * width), bias: new Float32Array(units) };
}

/**
 * The cheapest low-rank start: of the rank asked for, its half, quarter and eighth, the one that touches the fewest
 * bytes of weights at the wanted recall after one epoch of training, its own included.
 */
async function startingPoint(
  engine: Engine,
  layer: number,
  rows: Rows,
  options: ResolvedPrepareOptions,
  train: TrainOptions,
  rng: Rng,
  onStep: () => void | Promise<void>,
): Promise<Parameters> {
  const { kernels, model } = engine;
  const { perNeuron, perActive } = model.weightBytes;
  const { weight, bias } = model.neuronRows(layer);
  const biasValues = new Float32Array(rows.units);
  if (bias !== null) await kernels.read(bias, biasValues);
  const maxRank = Math.min(options.rank, rows.width, rows.units);
  const factors = await lowRankFactors(kernels, rows, weight, biasValues, maxRank, () => rng.next());
  let best: { parameters: Parameters; bytes: number } | null = null;
  for (const divisor of rankDivisors) {
    const rank = Math.max(1, Math.round(maxRank / divisor));
    const parameters = truncate(factors, rank);
    const trial = { ...train, epochs: Math.min(1, train.epochs) };
    const { point } = await trainPredictor(kernels, rows, parameters, trial, (n) => rng.nextInt(n), onStep);
    const chosen = point.density * rows.units;
    const bytes =
      parameterBytes(rank, rows.units, rows.width) + chosen * (perNeuron + point.precision * perActive);
    if (best === null || bytes < best.bytes) best = { parameters, bytes };
  }
  return best!.parameters;
}

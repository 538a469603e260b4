/** Trains one predictor: Deja Vu's network, loss and optimiser (section 4; FMInference/DejaVu, sparse_predictor). */
import type { Activation, Kernels } from "../kernels/contract.ts";
import { AdamW } from "./adamw.ts";
import { type Batch, shuffle } from "./batches.ts";
import type { Parameters } from "./factors.ts";
import { lossGradient } from "./loss.ts";
import { type OperatingPoint, operatingPoint } from "./operating-point.ts";
import { TrainableNetwork } from "./predictor-trainer.ts";
import type { Rows } from "./rows.ts";

export interface TrainOptions {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number; // at the start; falls to 0 along a cosine
  readonly weightDecay: number;
  /** Added to the share of positives in the loss weight. */
  readonly lossFloor: number;
  /** Replaces the logits of the rows numbered `numbers` by a loss's gradient; by default Deja Vu's, with the floor above. */
  readonly loss?: (logits: Float32Array, batch: Batch, numbers: Int32Array) => void;
  /** What stands between the two products; by default nothing. */
  readonly between?: Activation;
}

export interface RecallOptions extends TrainOptions {
  /** The recall that the predictor will be calibrated to. */
  readonly recall: number;
}

export interface Trained {
  readonly parameters: Parameters;
  readonly point: OperatingPoint;
  /** Number of the epoch kept; 0 is the start. */
  readonly epoch: number;
}

/** Logits of held-out rows beyond this many floats are not kept: 128 MB. */
const maxHeldOutLogits = 2 ** 25;

/** Logits of the held-out rows, as many as fit, with half-precision matrices, as they will be stored. */
export async function heldOutLogits(
  kernels: Kernels,
  rows: Rows,
  parameters: Parameters,
  between: Activation = "none",
): Promise<{ logits: Float32Array; active: Uint8Array }> {
  const numbers = rows.heldOut.subarray(0, Math.floor(maxHeldOutLogits / rows.units));
  const network = new TrainableNetwork(
    kernels,
    rows,
    parameters,
    Math.min(512, numbers.length),
    "f16",
    between,
  );
  const logits = new Float32Array(numbers.length * rows.units);
  const active = new Uint8Array(logits.length);
  try {
    for (let start = 0; start < numbers.length; start += network.size) {
      const some = numbers.subarray(start, start + network.size);
      await network.forward(rows, some);
      logits.set(network.logits.subarray(0, some.length * rows.units), start * rows.units);
      active.set(network.batch.active.subarray(0, some.length * rows.units), start * rows.units);
    }
  } finally {
    network.dispose();
  }
  return { logits, active };
}

/** Finds where to cut on held-out rows. */
export async function evaluatePredictor(
  kernels: Kernels,
  rows: Rows,
  parameters: Parameters,
  recall: number,
  between: Activation = "none",
): Promise<OperatingPoint> {
  const { logits, active } = await heldOutLogits(kernels, rows, parameters, between);
  return operatingPoint(logits, active, recall);
}

const copy = (p: Parameters): Parameters => ({
  rank: p.rank,
  down: p.down === null ? null : p.down.slice(),
  up: p.up.slice(),
  bias: p.bias.slice(),
});

/** Called after an epoch, from 1 on, with the parameters that it left, which are still in use. */
type OnEpoch = (epoch: number, parameters: Parameters) => Promise<void>;

/**
 * Trains from `start` on, through all epochs.
 * @param onStep called after each step; may throw to stop
 * @returns the parameters after the last epoch
 */
export async function trainEpochs(
  kernels: Kernels,
  rows: Rows,
  start: Parameters,
  options: TrainOptions,
  nextInt: (n: number) => number,
  onStep: () => void | Promise<void>,
  onEpoch: OnEpoch = async () => {},
): Promise<Parameters> {
  const current = copy(start);
  const { between = "none", lossFloor } = options;
  const loss = options.loss ?? ((logits, batch) => lossGradient(logits, batch.active, lossFloor));
  const size = Math.min(options.batchSize, rows.train.length);
  const network = new TrainableNetwork(kernels, rows, current, size, "f32", between);
  const optimise = (length: number) => new AdamW(length, options.weightDecay);
  const optimisers = {
    down: optimise(current.down?.length ?? 0),
    up: optimise(current.up.length),
    bias: new AdamW(current.bias.length, 0),
  };
  const order = rows.train.slice();
  const stepsPerEpoch = Math.floor(order.length / size);
  try {
    for (let epoch = 1; epoch <= options.epochs; epoch++) {
      shuffle(order, nextInt);
      for (let step = 0; step < stepsPerEpoch; step++) {
        const progress = ((epoch - 1) * stepsPerEpoch + step) / (options.epochs * stepsPerEpoch);
        const rate = (options.learningRate * (1 + Math.cos(Math.PI * progress))) / 2;
        const numbers = order.subarray(step * size, (step + 1) * size);
        await network.forward(rows, numbers);
        loss(network.logits, network.batch, numbers);
        const gradients = await network.backward();
        if (current.down && gradients.down) optimisers.down.update(current.down, gradients.down, rate);
        optimisers.up.update(current.up, gradients.up, rate);
        optimisers.bias.update(current.bias, gradients.bias, rate);
        network.write(current);
        await onStep();
      }
      await onEpoch(epoch, current);
    }
  } finally {
    network.dispose();
  }
  return current;
}

/**
 * Trains from `start` on and keeps the epoch (the start included) that needs the lowest density to reach the wanted
 * recall on held-out rows: a predictor that activates everything has density 1 and cannot win.
 * @param onStep called after each step; may throw to stop
 */
export async function trainPredictor(
  kernels: Kernels,
  rows: Rows,
  start: Parameters,
  options: RecallOptions,
  nextInt: (n: number) => number,
  onStep: () => void | Promise<void>,
): Promise<Trained> {
  const evaluate = (parameters: Parameters) =>
    evaluatePredictor(kernels, rows, parameters, options.recall, options.between);
  let best: Trained = { parameters: start, point: await evaluate(start), epoch: 0 };
  await trainEpochs(kernels, rows, start, options, nextInt, onStep, async (epoch, current) => {
    const point = await evaluate(current);
    if (point.density < best.point.density) best = { parameters: copy(current), point, epoch };
  });
  return best;
}

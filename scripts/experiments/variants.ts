/** The predictors that experiments compare: where they start, what they minimise, where they are cut. */
import { createRng } from "../../src/sampling/rng.ts";
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import type { Batch } from "../../src/train/batches.ts";
import { type Parameters, randomParameters, truncate } from "../../src/train/factors.ts";
import { lowRankFactors } from "../../src/train/initialise.ts";
import { fc1OfGuess } from "../../src/train/lookahead-start.ts";
import { negativeWeight } from "../../src/train/loss.ts";
import { nextBelow } from "../../src/train/operating-point.ts";
import type { Rows } from "../../src/train/rows.ts";
import { readMatrix } from "../../src/train/shadow/host-weights.ts";
import { openWeights } from "../../src/weights/index.ts";
import type { Workbench } from "./workbench.ts";

/** `fc1`: its best low-rank stand-in, as `prepare` starts; `mapped`: the same of fc1 after the best linear guess of mlp-input. */
export type Start = "fc1" | "mapped" | "random" | "paired";

/** Where training of a predictor of `rank` starts. */
export async function startOf(
  bench: Workbench,
  rows: Rows,
  layer: number,
  rank: number,
  start: Start,
): Promise<Parameters> {
  const { kernels, model } = bench.engine;
  const { units, width } = rows;
  const rng = createRng(1);
  if (start === "random") return randomParameters(rank, units, width, () => rng.next());
  const fc1 = model.neuronRows(layer);
  const bias = new Float32Array(units);
  if (fc1.bias !== null) await kernels.read(fc1.bias, bias);
  if (start === "paired") return paired(await startOf(bench, rows, layer, rank / 2, "fc1"));
  if (start === "fc1") {
    const factors = await lowRankFactors(kernels, rows, fc1.weight, bias, rank, () => rng.next());
    return truncate(factors, rank);
  }
  const target = await bench.rows(layer, "mlp-input");
  const { weight, offset } = await fc1OfGuess(kernels, rows, target, fc1.weight, bias);
  const factors = await lowRankFactors(kernels, rows, weight, offset, rank, () => rng.next());
  kernels.free(weight);
  return truncate(factors, rank);
}

/** With a ReLU between: each direction twice, once with the sign turned, whose difference is the direction itself. */
function paired({ rank, down, up, bias }: Parameters): Parameters {
  const both = Float32Array.from([...down!, ...down!.map((x) => -x)]);
  const units = bias.length;
  const columns = Float32Array.from({ length: units * 2 * rank }, (_, i) => {
    const [u, c] = [Math.floor(i / (2 * rank)), i % (2 * rank)];
    return c < rank ? up[u * rank + c]! : -up[u * rank + c - rank]!;
  });
  return { rank: 2 * rank, down: both, up: columns, bias };
}

/** Activation times the norm of the neuron's row of the transposed fc2: the length of what the neuron adds. */
export type Worth = (row: number, unit: number) => number;

export async function worthOf(bench: Workbench, layer: number): Promise<Worth> {
  const norms = await bench.outputNorms(layer);
  const activations = bench.observed.activation.get(layer)!;
  const units = norms.length;
  return (row, u) => f16ToNumber(activations[row * units + u]!) * norms[u]!;
}

/**
 * Cross-entropy whose positives weigh `worth ** power` over its mean in the batch; negatives as in Deja Vu.
 * @param power 1: a neuron's weight is the length of what it adds
 */
export function worthLoss(worth: Worth, floor: number, power: number) {
  return (logits: Float32Array, { active }: Batch, numbers: Int32Array): void => {
    const units = logits.length / numbers.length;
    const scale = 1 / logits.length;
    const negative = negativeWeight(active, floor) * scale;
    const weights = new Float32Array(logits.length);
    let [sum, positives] = [0, 0];
    for (const [at, row] of numbers.entries())
      for (let i = at * units; i < (at + 1) * units; i++)
        if (active[i] === 1) {
          sum += weights[i] = worth(row, i - at * units) ** power;
          positives += 1;
        }
    const mean = sum / Math.max(1, positives);
    for (let i = 0; i < logits.length; i++) {
      const sigmoid = 1 / (1 + Math.exp(-logits[i]!));
      logits[i] = active[i] === 1 ? ((sigmoid - 1) * scale * weights[i]!) / mean : sigmoid * negative;
    }
  };
}

/** Cross-entropy without weights. */
export function plainLoss(logits: Float32Array, { active }: Batch): void {
  const scale = 1 / logits.length;
  for (let i = 0; i < logits.length; i++) logits[i] = (1 / (1 + Math.exp(-logits[i]!)) - active[i]!) * scale;
}

/** The threshold that a share of `density` of all logits exceeds. */
export function thresholdFor(logits: Float32Array, density: number): number {
  const sorted = logits.slice().sort();
  const at = Math.max(0, Math.min(sorted.length - 1, Math.floor(sorted.length * (1 - density))));
  return nextBelow(sorted[at]!);
}

/** Share of the units above a threshold that keeps a share of `recall` of all worth. */
export function densityAtWorth(logits: Float32Array, rows: Rows, worth: Worth, recall: number): number {
  const { units } = rows;
  const order = Uint32Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]!);
  const of = (i: number) => worth(rows.heldOut[Math.floor(i / units)]!, i % units);
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += of(i);
  let [kept, count] = [0, 0];
  while (kept < recall * total) kept += of(order[count++]!);
  return count / logits.length;
}

/** Clippings of a row tried before rounding: with few levels, losing the largest weights costs less than coarse steps. */
const clips = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4];

/** One row rounded to `bits` bits, symmetric about 0, with the scale of the least squared error, and back. */
function roundRow(row: Float32Array, bits: number): Float32Array {
  const levels = 2 ** (bits - 1) - 1;
  const largest = row.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  let best = { error: Number.POSITIVE_INFINITY, values: row };
  for (const clip of clips) {
    const scale = (largest * clip) / levels || 1;
    const values = row.map((x) => Math.max(-levels, Math.min(levels, Math.round(x / scale))) * scale);
    const error = values.reduce((sum, value, i) => sum + (value - row[i]!) ** 2, 0);
    if (error < best.error) best = { error, values };
  }
  return best.values;
}

/** Each row of the matrices rounded to few bits with a scale of its own, and back. */
export function throughBits(parameters: Parameters, bits: number): Parameters {
  const { rank, down, up, bias } = parameters;
  const round = (matrix: Float32Array, width: number): Float32Array => {
    const out = new Float32Array(matrix.length);
    for (let start = 0; start < matrix.length; start += width)
      out.set(roundRow(matrix.subarray(start, start + width), bits), start);
    return out;
  };
  return {
    rank,
    down: down && round(down, down.length / rank),
    up: round(up, up.length / bias.length),
    bias,
  };
}

/** Bytes of a predictor in few bits: its weights, a float32 scale a row, biases in float32. */
export const bitBytes =
  (bits: number) =>
  ({ rank, down, up, bias }: Parameters): number =>
    (bits / 8) * ((down?.length ?? 0) + up.length) + 4 * (rank + 2 * bias.length);

/** fc1 itself as the predictor: nothing to train. */
export async function fc1Parameters(bench: Workbench, layer: number): Promise<Parameters> {
  const weights = await openWeights(bench.engine.folder);
  try {
    const at = `model.decoder.layers.${layer}.fc1`;
    const [up, bias] = [await readMatrix(weights, `${at}.weight`), await readMatrix(weights, `${at}.bias`)];
    return { rank: 0, down: null, up, bias };
  } finally {
    await weights.close();
  }
}

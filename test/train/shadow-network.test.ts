/** What experiments ask of the trainer beyond what `prepare` does: a ReLU between, another loss, the last epoch. */
import { afterAll, describe, expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import { createRng } from "../../src/sampling/rng.ts";
import type { Parameters } from "../../src/train/factors.ts";
import { TrainableNetwork } from "../../src/train/predictor-trainer.ts";
import { heldOutLogits, type TrainOptions, trainPredictor } from "../../src/train/train-predictor.ts";
import { type Matrix, multiply, toMatrix, transpose } from "../helpers/algebra.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { maxDifference } from "../helpers/golden.ts";
import { randomMatrix, rowsOf } from "../helpers/rows.ts";

const kernels = await openKernels({ backend: fastestBackend });
afterAll(() => kernels.dispose());

const [batch, width, units, rank] = [12, 6, 5, 4];
const inputs = randomMatrix(batch, width, 1);
const wanted = randomMatrix(batch, units, 2).map((row) => row.map(Math.abs));
const rows = rowsOf(inputs, wanted);
const random = (n: number, seed: number) => Float32Array.from(randomMatrix(1, n, seed)[0]!);
const start: Parameters = {
  rank,
  down: random(rank * width, 3),
  up: random(units * rank, 4),
  bias: random(units, 5),
};

const relu = (m: Matrix): Matrix => m.map((row) => row.map((x) => Math.max(0, x)));

function logitsOf(down: ArrayLike<number>, up: ArrayLike<number>, bias: ArrayLike<number>): number[] {
  const hidden = relu(multiply(inputs, transpose(toMatrix(down, width))));
  const product = multiply(hidden, transpose(toMatrix(up, rank)));
  return product.flatMap((row) => row.map((logit, u) => logit + bias[u]!));
}

/** Half the sum of squared differences: its gradient by the logits is the difference itself. */
function squareLoss(down: ArrayLike<number>, up: ArrayLike<number>, bias: ArrayLike<number>): number {
  const target = wanted.flat();
  return logitsOf(down, up, bias).reduce((sum, logit, i) => sum + (logit - target[i]!) ** 2 / 2, 0);
}

describe("a network with a ReLU between", () => {
  it("computes the logits and the gradients of a loss of the caller's", async () => {
    const network = new TrainableNetwork(kernels, rows, start, batch, "f32", "relu");
    await network.forward(rows, rows.train);
    expect(maxDifference(network.logits, logitsOf(start.down!, start.up, start.bias))).toBeLessThan(1e-5);
    const target = wanted.flat();
    for (let i = 0; i < target.length; i++) network.logits[i]! -= target[i]!;
    const found = await network.backward();
    const parts = { down: [...start.down!], up: [...start.up], bias: [...start.bias] };
    for (const name of ["down", "up", "bias"] as const) {
      const expected = parts[name].map((_, i) => {
        const at = (delta: number) => {
          const moved = { ...parts, [name]: parts[name].map((x, j) => (i === j ? x + delta : x)) };
          return squareLoss(moved.down, moved.up, moved.bias);
        };
        return (at(1e-6) - at(-1e-6)) / 2e-6;
      });
      expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(0.5);
      expect(maxDifference(found[name]!, expected), name).toBeLessThan(1e-3);
    }
    network.dispose();
  });
});

describe("training by another loss", () => {
  const options: TrainOptions = {
    epochs: 40,
    batchSize: batch,
    learningRate: 0.03,
    weightDecay: 0,
    lossFloor: 0.005,
    recall: 0.9,
    between: "relu",
    keep: "last",
  };
  const withHeldOut = rowsOf([...inputs, ...inputs], [...wanted, ...wanted], batch);
  const square = (logits: Float32Array, _batch: unknown, numbers: Int32Array): void => {
    for (let i = 0; i < logits.length; i++)
      logits[i]! -= withHeldOut.value(numbers[Math.floor(i / units)]!, i % units);
  };

  it("lowers it, and keeps the last epoch", async () => {
    const rng = createRng(1);
    const { parameters, epoch } = await trainPredictor(
      kernels,
      withHeldOut,
      start,
      { ...options, loss: square },
      (n) => rng.nextInt(n),
      () => {},
    );
    const loss = ({ down, up, bias }: Parameters) => squareLoss(down!, up, bias);
    expect(epoch).toBe(options.epochs);
    expect(loss(parameters)).toBeLessThan(loss(start) / 4);
    const { logits } = await heldOutLogits(kernels, withHeldOut, parameters, "relu");
    expect(maxDifference(logits, logitsOf(parameters.down!, parameters.up, parameters.bias))).toBeLessThan(
      0.02,
    );
  });
});

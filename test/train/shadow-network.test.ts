/** What experiments ask of the trainer beyond what `prepare` does: a ReLU between, another loss, the last epoch. */
import { afterAll, describe, expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import { createRng } from "../../src/sampling/rng.ts";
import type { Parameters } from "../../src/train/factors.ts";
import { squareLoss } from "../../src/train/loss.ts";
import { TrainableNetwork } from "../../src/train/predictor-trainer.ts";
import { heldOutLogits, type TrainOptions, trainEpochs } from "../../src/train/train-predictor.ts";
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
function halfSquares(down: ArrayLike<number>, up: ArrayLike<number>, bias: ArrayLike<number>): number {
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
          return halfSquares(moved.down, moved.up, moved.bias);
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
    between: "relu",
  };
  const withHeldOut = rowsOf([...inputs, ...inputs], [...wanted, ...wanted], batch);
  it("lowers it, through all epochs", async () => {
    const rng = createRng(1);
    const epochs: number[] = [];
    const parameters = await trainEpochs(
      kernels,
      withHeldOut,
      start,
      { ...options, loss: squareLoss(withHeldOut) },
      (n) => rng.nextInt(n),
      () => {},
      async (epoch) => void epochs.push(epoch),
    );
    const loss = ({ down, up, bias }: Parameters) => halfSquares(down!, up, bias);
    expect(epochs).toEqual(Array.from({ length: options.epochs }, (_, i) => i + 1));
    expect(loss(parameters)).toBeLessThan(loss(start) / 4);
    const { logits } = await heldOutLogits(kernels, withHeldOut, parameters, "relu");
    expect(maxDifference(logits, logitsOf(parameters.down!, parameters.up, parameters.bias))).toBeLessThan(
      0.02,
    );
  });
});

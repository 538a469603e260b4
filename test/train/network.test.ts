/** What training does to a predictor's parameters: gradients by finite differences, steps by hand. */
import { afterAll, describe, expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import { AdamW } from "../../src/train/adamw.ts";
import type { Parameters } from "../../src/train/factors.ts";
import { lossGradient, negativeWeight } from "../../src/train/loss.ts";
import { TrainableNetwork } from "../../src/train/predictor-trainer.ts";
import { type Matrix, multiply, toMatrix, transpose } from "../helpers/algebra.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { maxDifference } from "../helpers/golden.ts";
import { randomMatrix, rowsOf } from "../helpers/rows.ts";
import { expectSame } from "../helpers/same.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const kernels = await openKernels({ backend: fastestBackend });
afterAll(() => kernels.dispose());

const [batch, width, units, rank, floor] = [10, 7, 9, 3, 0.005];
const inputs = randomMatrix(batch, width, 1);
const active: Matrix = randomMatrix(batch, units, 2).map((row) => row.map((x) => (x > 0.6 ? 1 : 0)));
const rows = rowsOf(inputs, active);

type Name = "down" | "up" | "bias";
type Weights = { down: number[] | null; up: number[]; bias: number[] };

function parametersOf(withDown: boolean): Parameters {
  const random = (n: number, seed: number) => Float32Array.from(randomMatrix(1, n, seed)[0]!);
  return {
    rank: withDown ? rank : 0,
    down: withDown ? random(rank * width, 3) : null,
    up: random(units * (withDown ? rank : width), 4),
    bias: random(units, 5),
  };
}

function float64Logits({ down, up, bias }: Weights): Matrix {
  const hidden = down === null ? inputs : multiply(inputs, transpose(toMatrix(down, width)));
  const product = multiply(hidden, transpose(toMatrix(up, down === null ? width : rank)));
  return product.map((row) => row.map((logit, u) => logit + bias[u]!));
}

/** Mean binary cross-entropy, negatives weighted by the share of positives plus the floor. */
function float64Loss(weights: Weights): number {
  const marks: number[] = active.flat();
  const weight = Math.min(1, marks.reduce((a, b) => a + b, 0) / marks.length + floor);
  const terms = float64Logits(weights)
    .flat()
    .map((logit, i) => {
      const probability = 1 / (1 + Math.exp(-logit));
      return marks[i] === 1 ? -Math.log(probability) : -weight * Math.log(1 - probability);
    });
  return terms.reduce((a, b) => a + b, 0) / terms.length;
}

describe.each([
  ["with two matrices", true],
  ["with one matrix", false],
])("a network %s", (_, withDown) => {
  const parameters = parametersOf(withDown);
  const weights: Weights = {
    down: parameters.down && [...parameters.down],
    up: [...parameters.up],
    bias: [...parameters.bias],
  };

  it("computes the logits", async () => {
    const network = new TrainableNetwork(kernels, rows, parameters, batch, "f32");
    await network.forward(rows, rows.train);
    expect(maxDifference(network.logits, float64Logits(weights).flat())).toBeLessThan(1e-5);
    expect([...network.batch.active]).toEqual(active.flat());
    network.dispose();
  });

  it("has the gradients of the loss", async () => {
    const network = new TrainableNetwork(kernels, rows, parameters, batch, "f32");
    await network.forward(rows, rows.train);
    lossGradient(network.logits, network.batch.active, floor);
    const gradients = await network.backward();
    for (const name of ["down", "up", "bias"] as Name[]) {
      const values = weights[name];
      if (values === null) {
        expect(gradients[name]).toBeNull();
        continue;
      }
      const expected = values.map((value, i) => {
        const at = (delta: number) =>
          float64Loss({ ...weights, [name]: values.map((v, j) => (i === j ? value + delta : v)) });
        return (at(1e-4) - at(-1e-4)) / 2e-4;
      });
      expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(1e-3);
      expect(maxDifference(gradients[name]!, expected), name).toBeLessThan(1e-6);
    }
    network.dispose();
  });

  it("takes over new parameters, and its gradients do not add up", async () => {
    const network = new TrainableNetwork(kernels, rows, parametersOf(withDown), batch, "f32");
    const step = async () => {
      await network.forward(rows, rows.train);
      lossGradient(network.logits, network.batch.active, floor);
      const { down, up, bias } = await network.backward();
      return [...(down ?? []), ...up, ...bias];
    };
    const first = await step();
    expectSame(await step(), first);
    network.write({ ...parameters, bias: parameters.bias.map((b) => b + 1) });
    expect(maxDifference(await step(), first)).toBeGreaterThan(1e-3);
    network.dispose();
  });

  it("gives its memory back", () => {
    const memory = watchMemory(kernels);
    new TrainableNetwork(kernels, rows, parameters, batch, "f16").dispose();
    expect(memory.bytes).toBeGreaterThan(0);
    expect(memory.live.size).toBe(0);
    memory.end();
  });
});

describe("the weight of negatives", () => {
  it("is the share of positives plus the floor, at most 1", () => {
    expect(negativeWeight(Uint8Array.of(1, 0, 0, 0), 0.005)).toBeCloseTo(0.255, 12);
    expect(negativeWeight(Uint8Array.of(1, 1), 0.005)).toBe(1);
    expect(negativeWeight(Uint8Array.of(0, 0), 0)).toBe(0);
  });
});

describe("AdamW", () => {
  it("takes the steps computed by hand", () => {
    const parameters = Float32Array.of(1, -2);
    const adam = new AdamW(2, 0.01);
    // m/(1-β1) = g and v/(1-β2) = g² at first: a step of the learning rate against the sign.
    adam.update(parameters, Float32Array.of(0.5, -0.1), 0.1);
    expect(maxDifference(parameters, [1 * 0.999 - 0.1, -2 * 0.999 + 0.1])).toBeLessThan(1e-6);
    // m = 0.07, v = 0.00031225; corrected 0.3684211, 0.1562031. m = 0.021, v = 0.00009999; 0.1105263, 0.05002.
    adam.update(parameters, Float32Array.of(0.25, 0.3), 0.1);
    const first = 0.899 * 0.999 - (0.1 * 0.3684211) / 0.3952254;
    const second = -1.898 * 0.999 - (0.1 * 0.1105263) / 0.2236515;
    expect(maxDifference(parameters, [first, second])).toBeLessThan(1e-6);
  });

  it("decays weights apart from the gradient", () => {
    const parameters = Float32Array.of(4);
    const adam = new AdamW(1, 0.5);
    adam.update(parameters, Float32Array.of(0), 0.1);
    expect(parameters[0]).toBeCloseTo(4 * (1 - 0.1 * 0.5), 6);
    const still = Float32Array.of(4);
    new AdamW(1, 0).update(still, Float32Array.of(0), 0.1);
    expect(still[0]).toBe(4);
  });
});

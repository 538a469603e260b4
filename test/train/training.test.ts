/** Training on small problems whose answer is known. */
import { afterAll, describe, expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import { createRng } from "../../src/sampling/rng.ts";
import { createBatch, fillBatch, meanValues, shuffle } from "../../src/train/batches.ts";
import type { Parameters } from "../../src/train/factors.ts";
import { evaluatePredictor, type RecallOptions, trainPredictor } from "../../src/train/train-predictor.ts";
import { multiply, transpose } from "../helpers/algebra.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { randomMatrix, rowsOf } from "../helpers/rows.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const kernels = await openKernels({ backend: fastestBackend });
afterAll(() => kernels.dispose());

const [width, units, rank] = [8, 12, 4];
const inputs = randomMatrix(900, width, 1);
/** Units are on where a map of rank 4 is above a threshold: a predictor of that rank can be perfect. */
const [trueUp, trueDown] = [randomMatrix(units, rank, 2), randomMatrix(rank, width, 3)];
const scores = multiply(multiply(inputs, transpose(trueDown)), transpose(trueUp));
const active = scores.map((row) => row.map((x) => (x > 3 ? 1 : 0)));
const rows = rowsOf(inputs, active, 100);
const share =
  active
    .slice(800)
    .flat()
    .reduce((a: number, b) => a + b, 0) /
  (100 * units);

const options: RecallOptions = {
  epochs: 40,
  batchSize: 100,
  learningRate: 0.05,
  weightDecay: 0.01,
  lossFloor: 0.005,
  recall: 0.94,
};

const train = (start: Parameters, changed: Partial<RecallOptions> = {}, onStep: () => void = () => {}) => {
  const rng = createRng(1);
  return trainPredictor(kernels, rows, start, { ...options, ...changed }, (n) => rng.nextInt(n), onStep);
};

const flat = (values: number[][]): Float32Array => Float32Array.from(values.flat());
const perfect: Parameters = {
  rank,
  down: flat(trueDown),
  up: flat(trueUp),
  bias: new Float32Array(units).fill(-3),
};
const random: Parameters = {
  rank,
  down: flat(randomMatrix(rank, width, 4)),
  up: flat(randomMatrix(units, rank, 5)),
  bias: new Float32Array(units),
};
/** Finds every unit equally likely, and with certainty. */
const everything: Parameters = {
  rank,
  down: new Float32Array(rank * width).fill(0.01),
  up: new Float32Array(units * rank),
  bias: new Float32Array(units).fill(20),
};

describe("training", () => {
  it("lowers the density at the wanted recall, and evaluation on held-out rows agrees", async () => {
    const before = await evaluatePredictor(kernels, rows, random, options.recall);
    const { parameters, point, epoch } = await train(random);
    expect(before.density).toBeGreaterThan(3 * share);
    expect(point.density).toBeLessThan(before.density / 2);
    expect(point.recall).toBeGreaterThanOrEqual(options.recall);
    expect(epoch).toBeGreaterThan(0);
    expect(await evaluatePredictor(kernels, rows, parameters, options.recall)).toEqual(point);
  });

  it("does not let a predictor win that activates everything", async () => {
    const before = await evaluatePredictor(kernels, rows, everything, options.recall);
    expect(before).toMatchObject({ density: 1, recall: 1 });
    const { point, epoch } = await train(everything);
    expect(epoch).toBeGreaterThan(0);
    expect(point.density).toBeLessThan(0.9);
  });

  it("keeps the start where no epoch is better", async () => {
    const point = await evaluatePredictor(kernels, rows, perfect, options.recall);
    expect(point.density).toBeLessThan(share * 1.02);
    const trained = await train(perfect, { learningRate: 0.9, epochs: 2 });
    expect(trained.epoch).toBe(0);
    expect(trained.point).toEqual(point);
    expect(trained.parameters).toEqual(perfect);
  });

  it("with no epochs is the start", async () => {
    const trained = await train(random, { epochs: 0 });
    expect(trained.epoch).toBe(0);
    expect(trained.parameters).toEqual(random);
  });

  it("leaves the start's arrays alone, and repeats itself", async () => {
    const before = structuredClone(random);
    const first = await train(random, { epochs: 3 });
    expect(random).toEqual(before);
    expect(await train(random, { epochs: 3 })).toEqual(first);
  });

  it("reports each step, stops when told to, and gives its memory back", async () => {
    const memory = watchMemory(kernels);
    let steps = 0;
    await train(random, { epochs: 2 }, () => {
      steps += 1;
    });
    expect(steps).toBe(2 * 8);
    const enough = new Error("enough");
    const failed = train(random, {}, () => {
      throw enough;
    });
    await expect(failed).rejects.toBe(enough);
    expect(memory.live.size).toBe(0);
    memory.end();
  });
});

describe("batches", () => {
  it("hold the rows asked for, in their order", () => {
    const batch = createBatch(rows, 3);
    fillBatch(batch, rows, Int32Array.of(7, 2, 850));
    expect([...batch.inputs]).toEqual([7, 2, 850].flatMap((row) => inputs[row]!));
    expect([...batch.active]).toEqual([7, 2, 850].flatMap((row) => active[row]!));
  });

  it("count how much units are worth on training rows only", () => {
    const values = [
      [1, 0],
      [1, 3],
      [0, 0],
      [9, 9],
    ];
    const some = rowsOf(randomMatrix(4, 2, 1), values, 1);
    expect([...meanValues(some)]).toEqual([Math.fround(2 / 3), 1]);
  });

  it("are shuffled fairly", () => {
    const rng = createRng(5);
    const counts = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const order = Int32Array.of(0, 1, 2);
      shuffle(order, (n) => rng.nextInt(n));
      counts.set(order.join(), (counts.get(order.join()) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });
});

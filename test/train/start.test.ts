/** What predictors start from: the best low-rank map of the data and the heads' regression, against naive float64. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import { createRng } from "../../src/sampling/rng.ts";
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { type Factors, type Parameters, parameterBytes, truncate } from "../../src/train/factors.ts";
import { regressHeads } from "../../src/train/head-regression.ts";
import { lowRankFactors } from "../../src/train/initialise.ts";
import { inputMoments } from "../../src/train/moments.ts";
import { eigen, type Matrix, moments, multiply, solve, toMatrix, transpose } from "../helpers/algebra.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { maxDifference } from "../helpers/golden.ts";
import { randomMatrix, rowsOf } from "../helpers/rows.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const kernels = await openKernels({ backend: fastestBackend });
afterAll(() => kernels.dispose());

const [count, n, d] = [400, 14, 9];
/** Inputs with a mean of their own and directions of very different size, as after a layer norm. */
const inputs = randomMatrix(count, d, 1).map((row) => row.map((x, i) => x * 0.5 ** i + (i === 2 ? 1.5 : 0)));
const weightRows = randomMatrix(n, d, 2);
const bias = Float32Array.from(randomMatrix(1, n, 3)[0]!);
const rows = rowsOf(
  inputs,
  inputs.map(() => Array(n).fill(0)),
);
/** The inputs as they are stored, rounded to half precision. */
let stored: Matrix;
let weight: Tensor;
beforeAll(() => {
  stored = toMatrix(Array.from(rows.inputs, f16ToNumber), d);
  weight = kernels.allocate("f32", [n, d]);
  kernels.write(weight, Float32Array.from(weightRows.flat()));
});

const factorsOf = (rank: number): Promise<Factors> => {
  const rng = createRng(1);
  return lowRankFactors(kernels, rows, weight, bias, rank, () => rng.next());
};

/** W·h + b for every row. */
const preActivations = (): Matrix =>
  multiply(stored, transpose(weightRows)).map((row) => row.map((value, u) => value + bias[u]!));

/** What a predictor makes of every row. */
function predictions({ down, up, bias: own, rank }: Parameters, x = stored): Matrix {
  const hidden = down === null ? x : multiply(x, transpose(toMatrix(down, d)));
  const logits = multiply(hidden, transpose(toMatrix(up, down === null ? d : rank)));
  return logits.map((row) => row.map((value, u) => value + own[u]!));
}

/** Mean over rows of the squared distance. */
const meanSquare = (a: Matrix, b: Matrix): number =>
  a.reduce((sum, row, r) => sum + row.reduce((s, x, i) => s + (x - b[r]![i]!) ** 2, 0), 0) / a.length;

/** W·C·Wᵀ, whose trailing eigenvalues are what the best map of a rank cannot reach. */
const outputCovariance = (): Matrix => {
  const { covariance } = moments(stored, stored);
  return multiply(multiply(weightRows, covariance), transpose(weightRows));
};

describe("moments", () => {
  it("are those of the rows", async () => {
    const values = randomMatrix(count, 3, 7);
    const expected = moments(stored, values);
    const { mean, covariance, valueMean, cross } = await inputMoments(kernels, rowsOf(inputs, values), true);
    const products = new Float32Array(d * d);
    await kernels.read(covariance, products);
    kernels.free(covariance);
    expect(maxDifference(mean, expected.mean)).toBeLessThan(1e-6);
    expect(maxDifference(products, expected.covariance.flat())).toBeLessThan(1e-5);
    expect(maxDifference(valueMean, expected.yMean)).toBeLessThan(1e-6);
    expect(maxDifference(cross, expected.cross.flat())).toBeLessThan(1e-5);
  });

  it("leave held-out rows alone", async () => {
    const split = rowsOf(
      [...inputs, ...inputs.map((row) => row.map((x) => 100 * x))],
      Array(2 * count).fill([0]),
      count,
    );
    const [all, train] = [await inputMoments(kernels, rows), await inputMoments(kernels, split)];
    expect(train.mean).toEqual(all.mean);
    for (const { covariance } of [all, train]) kernels.free(covariance);
  });
});

describe("low-rank factors", () => {
  it.each([1, 2, 3, 5])("of rank %i are the best there are", async (rank) => {
    const { values, vectors } = eigen(outputCovariance());
    const least = values.slice(rank).reduce((a, b) => a + b, 0);
    const factors = await factorsOf(rank);
    const error = meanSquare(predictions(truncate(factors, rank)), preActivations());
    expect(error).toBeGreaterThan(least * 0.999);
    expect(error).toBeLessThan(least * 1.01);
    // The map itself: the projection of W on the leading eigenvectors.
    const leading = vectors.slice(0, rank);
    const best = multiply(multiply(transpose(leading), leading), weightRows);
    const map = multiply(toMatrix(factors.up, rank), toMatrix(factors.down, d));
    expect(Math.sqrt(meanSquare(map, best))).toBeLessThan(0.05);
  });

  it("have orthonormal columns in up", async () => {
    const up = toMatrix((await factorsOf(5)).up, 5);
    const gram = multiply(transpose(up), up);
    const identity = gram.map((_, i) => gram.map((__, j) => (i === j ? 1 : 0)));
    expect(maxDifference(gram.flat(), identity.flat())).toBeLessThan(1e-5);
  });

  it("of full rank give the pre-activations", async () => {
    const predicted = predictions(truncate(await factorsOf(d), d));
    expect(maxDifference(predicted.flat(), preActivations().flat())).toBeLessThan(1e-4);
  });

  it("are repeated by the same random numbers", async () => {
    expect(await factorsOf(4)).toEqual(await factorsOf(4));
  });

  it("give their memory back", async () => {
    const memory = watchMemory(kernels);
    await factorsOf(3);
    await regressHeads(kernels, rowsOf(inputs, randomMatrix(count, 2, 4)));
    expect(memory.bytes).toBeGreaterThan(0);
    expect(memory.live.size).toBe(0);
    memory.end();
  });
});

describe("truncation", () => {
  it("keeps the leading directions, balanced, and the mean's output", async () => {
    const factors = await factorsOf(6);
    const rank = 4;
    const { down, up, bias: own } = truncate(factors, rank);
    const leading = toMatrix(factors.up, 6).map((row) => row.slice(0, rank));
    const product = multiply(leading, toMatrix(factors.down, d).slice(0, rank));
    expect(
      maxDifference(multiply(toMatrix(up, rank), toMatrix(down!, d)).flat(), product.flat()),
    ).toBeLessThan(1e-5);
    const rms = (values: Float32Array) =>
      Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
    expect(rms(down!)).toBeCloseTo(rms(up), 5);
    // At the mean input the predictor says what fc1 says.
    const mean = [...factors.mean];
    const atMean = product.map((row, u) => row.reduce((sum, x, i) => sum + x * mean[i]!, own[u]!));
    expect(maxDifference(atMean, factors.base)).toBeLessThan(1e-5);
  });

  it("at the whole rank of few rows reproduces what more columns hold", async () => {
    const factors = await factorsOf(6);
    const whole = truncate(factors, 6);
    const product = multiply(toMatrix(factors.up, 6), toMatrix(factors.down, d));
    expect(
      maxDifference(multiply(toMatrix(whole.up, 6), toMatrix(whole.down!, d)).flat(), product.flat()),
    ).toBeLessThan(1e-5);
  });
});

describe("bytes of a predictor", () => {
  it("are two matrices in half precision and a bias in full, or one matrix", () => {
    expect(parameterBytes(8, 768, 192)).toBe(2 * 8 * 768 + 2 * 8 * 192 + 4 * 768);
    expect(parameterBytes(0, 6, 192)).toBe(2 * 6 * 192 + 4 * 6);
  });
});

describe("the regression of head norms", () => {
  /** Without directions so small that float32 cannot tell them from the ridge. */
  const even = randomMatrix(count, d, 11).map((row) => row.map((x, i) => x * 0.9 ** i + (i === 2 ? 1.5 : 0)));
  const problem = (norms: Matrix) => rowsOf(even, norms);
  const x = toMatrix(Array.from(problem(even).inputs, f16ToNumber), d);

  it("is the ridge solution", async () => {
    const truth = randomMatrix(3, d, 8);
    const noise = randomMatrix(count, 3, 9);
    const norms = multiply(x, transpose(truth)).map((row, r) =>
      row.map((norm, u) => norm + 4 + 0.3 * noise[r]![u]!),
    );
    const { down, up, bias: own, rank } = await regressHeads(kernels, problem(norms));
    expect([down, rank]).toEqual([null, 0]);
    const { covariance, cross, mean, yMean } = moments(x, norms);
    const ridge = (1e-3 * covariance.reduce((sum, row, i) => sum + row[i]!, 0)) / d;
    const regular = covariance.map((row, i) => row.map((c, j) => (i === j ? c + ridge : c)));
    const expected = cross.map((target) => solve(regular, target));
    expect(maxDifference(up, expected.flat())).toBeLessThan(1e-3);
    const shifts = expected.map((w, u) => yMean[u]! - w.reduce((sum, c, i) => sum + c * mean[i]!, 0));
    expect(maxDifference(own, shifts)).toBeLessThan(1e-3);
    // And so it ranks heads as their norms do, but for the noise.
    const predicted = predictions({ down, up, bias: own, rank }, x);
    expect(meanSquare(predicted, norms)).toBeLessThan(3 * 0.3 ** 2 * 1.1);
  });

  it("of norms that never change is their mean", async () => {
    const { up, bias: own } = await regressHeads(
      kernels,
      rowsOf(
        inputs,
        inputs.map(() => [2, 5]),
      ),
    );
    expect(maxDifference(up, Array(2 * d).fill(0))).toBeLessThan(1e-5);
    expect(maxDifference(own, [2, 5])).toBeLessThan(1e-5);
  });
});

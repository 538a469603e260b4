/** fc1 of the guess: where predictors of lookahead sources start. */
import { expect, it } from "vitest";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { createRng } from "../../src/sampling/rng.ts";
import { numberToF16 } from "../../src/tensor/dtype.ts";
import { fc1OfGuess } from "../../src/train/lookahead-start.ts";
import type { Rows } from "../../src/train/rows.ts";
import { maxDifference } from "../helpers/golden.ts";

const [width, units, count] = [5, 9, 1024];
const rng = createRng(4);
const random = (length: number) => Array.from({ length }, () => 2 * rng.next() - 1);
const rowsOf = (inputs: number[]): Rows => ({
  width,
  units,
  inputs: Uint16Array.from(inputs, numberToF16),
  value: () => 0,
  train: Int32Array.from({ length: count }, (_, i) => i),
  heldOut: new Int32Array(0),
});

it("finds the linear map from the source to mlp-input, and puts fc1 after it", async () => {
  const kernels = openReference();
  const source = random(count * width);
  // mlp-input = M·s + m, exactly: then fc1 of the guess is (W1·M)·s + W1·m + b1.
  const [map, shift, fc1, bias] = [
    random(width * width),
    random(width),
    random(units * width),
    random(units),
  ];
  const apply = (s: number[]) =>
    shift.map((m, i) => s.reduce((sum, v, j) => sum + map[i * width + j]! * v, m));
  const target = Array.from({ length: count }, (_, r) =>
    apply(source.slice(r * width, (r + 1) * width)),
  ).flat();
  const tensor = kernels.allocate("f32", [units, width]);
  kernels.write(tensor, Float32Array.from(fc1));
  const { weight, offset } = await fc1OfGuess(
    kernels,
    rowsOf(source),
    rowsOf(target),
    tensor,
    Float32Array.from(bias),
  );
  const found = new Float32Array(units * width);
  await kernels.read(weight, found);
  const composed = Array.from({ length: units * width }, (_, at) => {
    const [u, j] = [Math.floor(at / width), at % width];
    return Array.from({ length: width }, (_, i) => fc1[u * width + i]! * map[i * width + j]!).reduce(
      (a, b) => a + b,
    );
  });
  const shifted = bias.map((b, u) => shift.reduce((sum, m, i) => sum + fc1[u * width + i]! * m, b));
  expect(maxDifference(found, composed)).toBeLessThan(0.01);
  expect(maxDifference(offset, shifted)).toBeLessThan(0.01);
  kernels.dispose();
});

/** Product, choice and accumulation in a row, which the native backend does as one job: bit for bit what they give apart. */
import { describe, expect, it } from "vitest";
import { nativeInstructionSets, openNative } from "../../src/kernels/native/native.ts";
import { type WeightDtype, weightDtypes } from "../../src/tensor/dtype.ts";
import { availableBackends } from "../helpers/backends.ts";
import { expectSame } from "../helpers/same.ts";
import { Lab } from "./lab.ts";

const hasNative = availableBackends.includes("native");
const [n, d] = [520, 512];

/** How the ops are told apart: read in between, they are done one by one. */
async function run(lab: Lab, dtype: WeightDtype, units: readonly number[], isApart: boolean, width = d) {
  const { kernels } = lab;
  const [neurons, active] = [lab.setOf(n, [units]), lab.setOf(n, [[7, 8, 9]])];
  const [x, activations, residual] = [lab.random([1, width]), lab.random([1, n]), lab.random([1, width])];
  const [fc1, fc2] = [lab.random([n, width], dtype), lab.random([n, width], dtype)];
  const [bias1, bias2] = [lab.random([n]), lab.random([width])];
  const one = new Float32Array(1);
  kernels.product(activations, 0, x, fc1, bias1, "relu", neurons, 1, 1);
  if (isApart) await kernels.read(x, one);
  kernels.refine(active, neurons, activations, 1);
  if (isApart) await kernels.read(x, one);
  kernels.accumulate(residual, activations, fc2, bias2, active, 1, 1);
  const result = [new Float32Array(n), new Float32Array(width)] as const;
  await kernels.read(activations, result[0]);
  await kernels.read(residual, result[1]);
  const count = new Int32Array(1);
  await kernels.read(active.counts, count);
  const kept = new Int32Array(n);
  await kernels.read(active.indices, kept);
  lab.free();
  return { activations: result[0], residual: result[1], kept: kept.slice(0, count[0]) };
}

describe.runIf(hasNative)("an MLP of one row", () => {
  const choose = (share: (unit: number) => boolean) => Array.from({ length: n }, (_, u) => u).filter(share);
  const sets = {
    none: [],
    one: [500],
    all: choose(() => true),
    "the last strand": choose((u) => u >= 390),
    "every third": choose((u) => u % 3 === 0),
  };
  it.each(Object.entries(sets))("whose set is %s", async (_, units) => {
    for (const instructionSet of nativeInstructionSets())
      for (const threads of [1, 2, 4]) {
        const kernels = openNative({ instructionSet, threads });
        for (const dtype of weightDtypes) {
          const expected = await run(new Lab(kernels, 5), dtype, units, true);
          const actual = await run(new Lab(kernels, 5), dtype, units, false);
          for (const what of ["activations", "residual", "kept"] as const)
            expectSame(
              actual[what],
              expected[what],
              `${instructionSet}, ${threads} threads, ${dtype}: ${what}`,
            );
          expect([...actual.kept]).toEqual(units.filter((u) => actual.activations[u]! > 0));
        }
        kernels.dispose();
      }
  });

  it("whose rows are longer than a chain", async () => {
    const kernels = openNative({ threads: 2 });
    for (const dtype of weightDtypes) {
      const expected = await run(new Lab(kernels, 6), dtype, sets["every third"], true, 4500);
      const actual = await run(new Lab(kernels, 6), dtype, sets["every third"], false, 4500);
      expectSame(actual.residual, expected.residual, dtype);
      expectSame(actual.kept, expected.kept, dtype);
    }
    kernels.dispose();
  });
});

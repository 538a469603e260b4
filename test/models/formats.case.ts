/** Models whose weights are converted on loading, on any backend: what they compute, and what they refuse. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Kernels } from "../../src/kernels/contract.ts";
import type { Model } from "../../src/models/model.ts";
import { loadOpt } from "../../src/models/opt.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import {
  bf16ToNumber,
  f16ToNumber,
  numberToBf16,
  numberToF16,
  type WeightDtype,
  weightDtypes,
} from "../../src/tensor/dtype.ts";
import { openWeights } from "../../src/weights/index.ts";
import { float64Logits } from "../helpers/float64-opt.ts";
import { golden, goldenTensor, storiesFolder } from "../helpers/golden.ts";
import {
  plain,
  type Tensors,
  type Variant,
  variants,
  writeRandomCheckpoint,
} from "../helpers/random-checkpoint.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { roundedRow } from "../kernels/float64-quantized.ts";

async function openAs(
  kernels: Kernels,
  folder: string,
  dtype: WeightDtype,
  tables?: WeightDtype,
): Promise<Model> {
  const file = join(folder, "config.json");
  const weights = await openWeights(folder);
  try {
    return await loadOpt(kernels, weights, JSON.parse(readFileSync(file, "utf8")), file, { dtype, tables });
  } finally {
    await weights.close();
  }
}

async function logitsOf(kernels: Kernels, model: Model, ids: readonly number[]): Promise<Float32Array> {
  const state = model.createState({ capacity: ids.length, maxRows: 64, cacheDtype: "f32" });
  model.forward(state, Int32Array.from(ids), denseSelector, "all");
  const logits = new Float32Array(ids.length * model.shape.vocabSize);
  await kernels.read(state.logits, logits);
  state.dispose();
  return logits;
}

/** Root of the mean square of the differences. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return Math.sqrt(sum / a.length);
}

function roundRow(row: number[], dtype: WeightDtype): number[] {
  if (dtype === "f32") return row;
  if (dtype === "f16") return row.map((v) => f16ToNumber(numberToF16(v)));
  if (dtype === "bf16") return row.map((v) => bf16ToNumber(numberToBf16(v)));
  return roundedRow(row, dtype);
}

/** The weights as they are in memory, by formulas: rounded along the rows of the unit. */
function rounded(tensors: Tensors, dtype: WeightDtype, tables?: WeightDtype): Tensors {
  return new Map(
    [...tensors].map(([name, { shape, values }]) => {
      if (shape.length !== 2) return [name, { shape, values }];
      const [rows, columns] = shape as [number, number];
      const isTurned = /fc2|out_proj/.test(name);
      const isTable = /embed|lm_head/.test(name);
      const format = isTable ? (tables ?? (dtype === "int4" ? "int8" : dtype)) : dtype;
      const at = (r: number, c: number) => (isTurned ? c * columns + r : r * columns + c);
      const result = new Float32Array(values.length);
      const [n, d] = isTurned ? [columns, rows] : [rows, columns];
      for (let r = 0; r < n; r++) {
        const row = Array.from({ length: d }, (_, c) => values[at(r, c)]!);
        roundRow(row, format).forEach((value, c) => {
          result[at(r, c)] = value;
        });
      }
      return [name, { shape, values: result }];
    }),
  );
}

/** Of float formats sums in float32; of the others the rounding of what they are multiplied with, too. */
const tolerance: Readonly<Record<WeightDtype, number>> = {
  f32: 1e-5,
  f16: 1e-5,
  bf16: 1e-5,
  int8: 0.03,
  int4: 0.03,
};

/** What each format may do to the logits of stories-4m, which reach 17: about twice what it was found to do. */
const goldenTolerance: Readonly<Record<WeightDtype, number>> = {
  f32: 1e-4,
  f16: 1e-4,
  bf16: 0.02,
  int8: 0.1,
  int4: 0.6,
};

export function formatSuite(name: string, open: () => Kernels): void {
  const folder = temporaryFolder();
  const ids = [2, 5, 36, 0, 17, 17, 4, 9, 30, 1, 12, 8, 3];
  // Wide enough for whole blocks, a short one, and padding.
  const wide = { ...plain, hidden_size: 72, word_embed_proj_dim: 72, ffn_dim: 104 };
  const narrow = variants["pre-norm with projections, untied"]!;

  describe(`weights in any format: ${name}`, () => {
    it.each<[WeightDtype, WeightDtype?]>([
      ...weightDtypes.map((dtype): [WeightDtype] => [dtype]),
      ["int4", "int4"],
      ["f16", "int4"],
      ["int8", "f32"],
    ])("%s (tables: %s): the model is that of the rounded weights", async (dtype, tables) => {
      for (const [title, variant] of Object.entries({ wide, narrow }) as [string, Variant][]) {
        const at = join(folder, `${title} ${dtype} ${tables}`);
        const tensors = await writeRandomCheckpoint(at, variant, dtype === "f16" ? "bf16" : "f16");
        const kernels = open();
        const model = await openAs(kernels, at, dtype, tables);
        const logits = await logitsOf(kernels, model, ids);
        const expected = float64Logits(rounded(tensors, dtype, tables), variant, ids).flat();
        const others = float64Logits(tensors, variant, ids).flat();
        const size = difference(expected, new Float64Array(expected.length));
        expect(difference(logits, expected) / size).toBeLessThan(
          tolerance[tables === "int4" ? tables : dtype],
        );
        // The test sees which format it is: those that lose something are nearer to their own rounding.
        if (dtype === "bf16" || dtype === "int4" || tables === "int4")
          expect(difference(logits, expected)).toBeLessThan(difference(logits, others) / 2);
        expect(model.dtype).toBe(dtype);
        expect(model.tables).toBe(tables ?? (dtype === "int4" ? "int8" : dtype));
        kernels.dispose();
      }
    });

    it.each(weightDtypes)("%s: keeps to the golden logits", async (dtype) => {
      const kernels = open();
      const model = await openAs(kernels, storiesFolder, dtype);
      for (const index of [0, 1, 2]) {
        const { values } = await goldenTensor(`case${index}.logits`);
        const logits = await logitsOf(kernels, model, golden.cases[index]!.ids);
        expect(difference(logits, values)).toBeLessThan(goldenTolerance[dtype]);
      }
      kernels.dispose();
    });
  });
}

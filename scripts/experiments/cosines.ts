/** How much of a later tensor an earlier one already holds: why predictions ahead work, or do not. */
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import { printTable } from "./markdown.ts";
import type { Workbench } from "./workbench.ts";

/** Mean cosine of rows of two matrices, as they are and after taking each column's mean away. */
function meanCosines(a: Uint16Array, b: Uint16Array, width: number): [number, number] {
  const rows = a.length / width;
  const widen = (m: Uint16Array) => Float32Array.from(m, f16ToNumber);
  const [x, y] = [widen(a), widen(b)];
  const mean = (): number => {
    let sum = 0;
    for (let r = 0; r < rows; r++) {
      let [xy, xx, yy] = [0, 0, 0];
      for (let i = r * width; i < (r + 1) * width; i++) {
        xy += x[i]! * y[i]!;
        xx += x[i]! * x[i]!;
        yy += y[i]! * y[i]!;
      }
      sum += xy / Math.sqrt(xx * yy);
    }
    return sum / rows;
  };
  const centre = (m: Float32Array) => {
    const means = new Float64Array(width);
    for (let i = 0; i < m.length; i++) means[i % width]! += m[i]! / rows;
    for (let i = 0; i < m.length; i++) m[i]! -= means[i % width]!;
  };
  const asTheyAre = mean();
  centre(x);
  centre(y);
  return [asTheyAre, mean()];
}

/** Prints, per layer, cosines of the residual stream's stations and of the sources with what fc1 reads. */
export async function cosines(bench: Workbench): Promise<void> {
  const { layers, hiddenSize: d } = bench.engine.model.shape;
  const { beforeAttention: x, beforeMlp: y } = bench.observed;
  const both = (a: Uint16Array, b: Uint16Array): string =>
    meanCosines(a, b, d)
      .map((cosine) => cosine.toFixed(2))
      .join(" / ");
  const rows: string[][] = [];
  for (let l = 0; l < layers; l++) {
    const mlp = (await bench.rows(l, "mlp-input")).inputs;
    const attention = (await bench.rows(l, "attention-input")).inputs;
    const previous = l > 0 ? (await bench.rows(l, "previous-block")).inputs : null;
    rows.push([
      `${l}`,
      l + 1 < layers ? both(x[l]!, x[l + 1]!) : "–",
      both(x[l]!, y[l]!),
      both(attention, mlp),
      previous ? both(previous, mlp) : "–",
    ]);
  }
  const header = [
    "layer",
    "residual: x_l, x_l+1",
    "x_l, y_l",
    "attention-input, mlp-input",
    "previous-block, mlp-input",
  ];
  printTable("Cosines (as they are / after taking each column's mean away)", header, rows);
}

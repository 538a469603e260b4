/** Where to cut a predictor's logits of a layer's neurons, on rows that training never saw. */
import type { Activation, Kernels } from "../kernels/contract.ts";
import { raiseThresholds } from "./batch-thresholds.ts";
import type { Parameters } from "./factors.ts";
import { neuronLadder } from "./ladder.ts";
import { operatingPoint } from "./operating-point.ts";
import type { PreparedPredictor } from "./prepared-layer.ts";
import type { Rows } from "./rows.ts";
import { heldOutLogits } from "./train-predictor.ts";

/**
 * @param recall share of the active neurons that the point must reach
 * @param isSearched whether a search is to choose among other points
 * @param between what stands between the predictor's products
 */
export async function calibrateNeurons(
  kernels: Kernels,
  rows: Rows,
  parameters: Parameters,
  recall: number,
  isSearched: boolean,
  between: Activation = "none",
): Promise<Pick<PreparedPredictor, "point" | "ladder" | "raised">> {
  const { units } = rows;
  const { logits, active } = await heldOutLogits(kernels, rows, parameters, between);
  const point = operatingPoint(logits, active, recall);
  const ladder = isSearched ? neuronLadder(logits, active) : [];
  const thresholds = [point, ...ladder].map(({ threshold }) => threshold);
  const raised = raiseThresholds({ units, rows: logits.length / units, logits, active }, thresholds);
  return { point, ladder, raised };
}

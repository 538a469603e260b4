/** What heads were worth to the loss, on some of the captured documents: what predictors of heads learn (decisions 4, 9). */
import { countIds } from "../eval/documents.ts";
import type { Engine } from "../load.ts";
import type { HeadTarget } from "../sparsity/bundle.ts";
import { createBreather } from "../util/breathe.ts";
import { UsageError } from "../util/errors.ts";
import type { ResolvedPrepareOptions } from "./prepare-options.ts";
import { isHeldOut, type Rows } from "./rows.ts";
import { hasGradients } from "./shadow/checkpoint.ts";
import { importances, overLargest } from "./shadow/importance.ts";

/** Ids to run back through at most: one costs as much as some ten of a forward, and twice as many rank hardly better. */
const maxIds = 10_000;
/** Documents are cut here, because the way back needs attention's probabilities: [heads, ids, ids] of every layer. */
const maxLength = 512;

export interface HeadImportance {
  /** The captured rows that were measured, ascending; all are of documents to train on. */
  readonly rows: Int32Array;
  /** Over the largest of the row and layer, so within 0 … 1. */
  value(layer: number, row: number, head: number): number;
}

/**
 * What predictors of heads are to learn: the importance, where the model has a backward pass, else the norm.
 * @throws UsageError when something is asked for that needs gradients and the model has none
 */
export async function chooseHeadTarget(
  engine: Engine,
  { predictor, headTarget }: ResolvedPrepareOptions,
): Promise<HeadTarget> {
  if (headTarget === "norm") return "norm";
  if (await hasGradients(engine.folder)) return "importance";
  const asked = predictor === "shadow" ? "predictor is shadow" : headTarget && `headTarget is ${headTarget}`;
  if (asked === undefined) return "norm";
  throw new UsageError(
    `${asked}: gradients exist for pre-norm OPT models without projections only, and for weights as they were published; ${engine.folder} holds others`,
  );
}

/** Some of the documents to train on, spread over all of them, and the captured row that each begins with. */
function sampleOf(documents: readonly Int32Array[]): { starts: number[]; some: Int32Array[] } {
  const cut = documents.map((ids) => ids.subarray(0, maxLength));
  const training = [...cut.keys()].filter((number) => !isHeldOut(number) && cut[number]!.length > 1);
  const stride = Math.max(1, Math.ceil(countIds(training.map((number) => cut[number]!)) / maxIds));
  const chosen = training.filter((_, i) => i % stride === 0);
  const firstRows: number[] = [];
  let row = 0;
  for (const ids of documents) {
    firstRows.push(row);
    row += ids.length;
  }
  return { starts: chosen.map((number) => firstRows[number]!), some: chosen.map((number) => cut[number]!) };
}

/**
 * @param documents all captured documents, in their order
 * @throws the signal's reason when aborted
 */
export async function measureHeadImportance(
  engine: Engine,
  documents: readonly Int32Array[],
  onProgress: (ids: number, total: number) => void,
  signal: AbortSignal | undefined,
): Promise<HeadImportance> {
  const { layers, heads } = engine.model.shape;
  const { starts, some } = sampleOf(documents);
  const total = countIds(some);
  const places = new Int32Array(countIds(documents)).fill(-1);
  const worth = Array.from({ length: layers }, () => new Float32Array(total * heads));
  const rows: number[] = [];
  let done = 0;
  const keep = (document: number, _neurons: unknown, perLayer: readonly Float32Array[]): void => {
    for (const [layer, values] of perLayer.entries())
      worth[layer]!.set(overLargest(values, heads), done * heads);
    // Of the last id, which has no next one, the loss says nothing.
    for (let i = 0; i + 1 < some[document]!.length; i++) {
      places[starts[document]! + i] = done + i;
      rows.push(starts[document]! + i);
    }
    done += some[document]!.length;
    onProgress(done, total);
  };
  await importances(engine.kernels, engine.folder, some, keep, createBreather(signal));
  return {
    rows: Int32Array.from(rows),
    value: (layer, row, head) => worth[layer]![places[row]! * heads + head]!,
  };
}

/** The same inputs, with the importance of a layer's heads as what they are worth, on the rows where it is known. */
export const withImportance = (rows: Rows, importance: HeadImportance, layer: number): Rows => ({
  ...rows,
  value: (row, head) => importance.value(layer, row, head),
  train: importance.rows,
  heldOut: new Int32Array(0),
});

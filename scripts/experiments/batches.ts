/**
 * One set of neurons for a batch: the union of each token's own, or the best of their summed scores, with as many as
 * give the same recall: `npx tsx scripts/experiments/batches.ts --text FILE [--model FOLDER] [--documents N]`.
 */
import { parseArgs } from "node:util";
import { readCorpus } from "../../src/eval/documents.ts";
import { type Engine, load } from "../../src/load.ts";
import { blockRows, feed } from "../../src/models/feed.ts";
import { createRng, type Rng } from "../../src/sampling/rng.ts";
import { predictedScorer } from "../../src/sparsity/predictor.ts";
import { type BlockView, denseKv, noBytes, type Scorer, type Selector } from "../../src/sparsity/selector.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { printTable, share } from "./markdown.ts";

/** A token's logits and activations in every layer. */
interface Seen {
  readonly logits: Float32Array[]; // [layers][ffn_dim]
  readonly active: Uint8Array[]; // [layers][ffn_dim]
}

/** Runs everything and keeps, beside, what the predictors would have said. */
class Watcher implements Selector {
  readonly kind = "capture";
  readonly bytesPerToken = noBytes;
  readonly attention = denseKv;
  readonly logits: Tensor[];
  readonly activations: Tensor[];
  readonly #engine: Engine;
  readonly #scorer: Scorer;

  constructor(engine: Engine, scorer: Scorer) {
    const { layers, ffnDim } = engine.model.shape;
    const make = () =>
      Array.from({ length: layers }, () => engine.kernels.allocate("f32", [blockRows, ffnDim]));
    [this.logits, this.activations] = [make(), make()];
    this.#engine = engine;
    this.#scorer = scorer;
  }

  heads() {
    return null;
  }

  neurons(block: BlockView) {
    const { kernels } = this.#engine;
    kernels.copyRows(this.logits[block.layer]!, 0, this.#scorer.scores("neurons", block), 0, block.rows);
    kernels.copyRows(this.activations[block.layer]!, 0, block.activations(), 0, block.rows);
    return null;
  }

  dispose() {}
}

/** Every `stride`-th token of each document. */
async function watch(engine: Engine, documents: readonly Int32Array[], stride: number): Promise<Seen[][]> {
  const { model, kernels } = engine;
  const { ffnDim } = model.shape;
  const watcher = new Watcher(
    engine,
    predictedScorer(kernels, (await engine.bundle()).predictors, blockRows),
  );
  const result: Seen[][] = [];
  for (const ids of documents) {
    const seen: Seen[] = [];
    const state = model.createState({ capacity: ids.length, maxRows: blockRows });
    const readAll = async (tensors: readonly Tensor[]): Promise<Float32Array[]> =>
      Promise.all(
        tensors.map(async (tensor) => {
          const values = new Float32Array(blockRows * ffnDim);
          await kernels.read(tensor, values);
          return values;
        }),
      );
    const afterBlock = async (_start: number, rows: number): Promise<void> => {
      const [logits, activations] = [await readAll(watcher.logits), await readAll(watcher.activations)];
      for (let r = 0; r < rows; r += stride) {
        const row = (values: Float32Array) => values.slice(r * ffnDim, (r + 1) * ffnDim);
        seen.push({
          logits: logits.map(row),
          active: activations.map((values) => Uint8Array.from(row(values), (v) => (v > 0 ? 1 : 0))),
        });
      }
    };
    await feed(model, state, ids, watcher, "none", { afterBlock });
    state.dispose();
    result.push(seen);
  }
  return result;
}

function draw(seen: readonly Seen[][], count: number, rng: Rng): Seen[] {
  const order = seen.map((_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + rng.nextInt(order.length - i);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order.slice(0, count).map((d) => seen[d]![rng.nextInt(seen[d]!.length)]!);
}

interface Covered {
  readonly size: number;
  readonly recall: number;
}

/** How many tokens need each neuron. */
function needs(batch: readonly Seen[], layer: number, n: number): Float64Array {
  const need = new Float64Array(n);
  for (const { active } of batch) for (let i = 0; i < n; i++) need[i]! += active[layer]![i]!;
  return need;
}

const total = (values: Float64Array): number => values.reduce((a, b) => a + b, 0);

function union(batch: readonly Seen[], layer: number, n: number, threshold: number): Covered {
  const need = needs(batch, layer, n);
  let [size, met] = [0, 0];
  for (let i = 0; i < n; i++)
    if (batch.some(({ logits }) => logits[layer]![i]! > threshold)) {
      size += 1;
      met += need[i]!;
    }
  return { size, recall: met / Math.max(1, total(need)) };
}

/** Recall of the best k by Σ max(logit − from, 0), for every k from 0 to n. */
function pooled(batch: readonly Seen[], layer: number, n: number, from: number): Float64Array {
  const scores = new Float64Array(n);
  for (const { logits } of batch)
    for (let i = 0; i < n; i++) scores[i]! += Math.max(logits[layer]![i]! - from, 0);
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => scores[b]! - scores[a]! || a - b);
  const need = needs(batch, layer, n);
  const all = Math.max(1, total(need));
  const recalls = new Float64Array(n + 1);
  let met = 0;
  for (const [i, unit] of order.entries()) {
    met += need[unit]!;
    recalls[i + 1] = met / all;
  }
  return recalls;
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** The union's size when its threshold is raised until the mean recall is only that wanted. */
function raised(
  batches: readonly Seen[][],
  layer: number,
  n: number,
  threshold: number,
  wanted: number,
): number {
  let [low, high] = [threshold, threshold + 12];
  for (let step = 0; step < 12; step++) {
    const middle = (low + high) / 2;
    const recall = mean(batches.map((batch) => union(batch, layer, n, middle).recall));
    [low, high] = recall >= wanted ? [middle, high] : [low, middle];
  }
  return mean(batches.map((batch) => union(batch, layer, n, low).size)) / n;
}

/** The smallest share of neurons whose mean recall, over batches, reaches that wanted. */
function sizeFor(curves: readonly Float64Array[], wanted: number): number {
  const n = curves[0]!.length - 1;
  for (let k = 0; k <= n; k++) if (mean(curves.map((curve) => curve[k]!)) >= wanted) return k / n;
  return 1;
}

const { values } = parseArgs({
  options: {
    text: { type: "string" },
    model: { type: "string", default: "models/stories-4m" },
    documents: { type: "string", default: "80" },
    draws: { type: "string", default: "60" },
  },
});
if (values.text === undefined) throw new Error("--text FILE is missing");
using engine = await load(values.model);
const { layers, ffnDim: n, maxPositions } = engine.model.shape;
const corpus = await readCorpus([values.text], engine.tokenizer, {
  maxDocuments: Number(values.documents),
  maxLength: maxPositions,
});
const { metadata } = await engine.bundle();
const seen = await watch(engine, corpus.documents, 5);
const rng = createRng(0);
const rows: string[][] = [];
const alone: number[] = []; // recall of a batch of one, by layer
for (const size of [1, 2, 4, 8, 16, 32, 64]) {
  const batches = Array.from({ length: Number(values.draws) }, () => draw(seen, size, rng));
  const columns: Record<"recall" | "union" | "zero" | "cut" | "raised", number[]> = {
    recall: [],
    union: [],
    zero: [],
    cut: [],
    raised: [],
  };
  for (let layer = 0; layer < layers; layer++) {
    const policy = metadata.policy.neurons[layer]!;
    if (policy.kind !== "threshold") continue;
    const own = batches.map((batch) => union(batch, layer, n, policy.threshold));
    const recall = mean(own.map((one) => one.recall));
    if (size === 1) alone[layer] = recall;
    columns.raised.push(raised(batches, layer, n, policy.threshold, alone[layer]!));
    columns.recall.push(recall);
    columns.union.push(mean(own.map((one) => one.size)) / n);
    const curve = (from: number) => batches.map((batch) => pooled(batch, layer, n, from));
    columns.zero.push(sizeFor(curve(0), recall));
    columns.cut.push(sizeFor(curve(policy.threshold), recall));
  }
  rows.push([
    `${size}`,
    ...[columns.recall, columns.union, columns.zero, columns.cut, columns.raised].map((c) => share(mean(c))),
  ]);
}
printTable(
  "Neurons of a batch at equal recall, mean of the layers with a threshold",
  [
    "batch",
    "recall",
    "union of own sets",
    "best of Σ relu(logit)",
    "best of Σ relu(logit − threshold)",
    "union at the recall of one",
  ],
  rows,
);

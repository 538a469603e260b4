/** What all experiments share: a model, captured rows of it, and other documents to run the outcome on. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCorpus } from "../../src/eval/documents.ts";
import { type Engine, load } from "../../src/load.ts";
import type { Source } from "../../src/sparsity/selector.ts";
import { capture } from "../../src/train/capture.ts";
import { isHeldOut, loadRows, type Rows } from "../../src/train/rows.ts";
import { readMatrix } from "../../src/train/shadow/host-weights.ts";
import { openWeights } from "../../src/weights/index.ts";
import { type Observed, observe } from "./observe.ts";

/** A tensor that a predictor may read here: a source, or the residual stream before the norm that makes the source. */
export type Tap = Source | "residual-before-attention" | "residual-before-mlp";

export interface Workbench {
  readonly engine: Engine;
  readonly layers: readonly number[];
  /** Documents of the captured rows, in their order. */
  readonly documents: readonly Int32Array[];
  /** Documents that were not captured: what outcomes are run on. */
  readonly check: readonly Int32Array[];
  readonly observed: Observed;
  /** Where the captured rows are. */
  readonly folder: string;
  rows(layer: number, tap: Tap): Promise<Rows>;
  /** L2 norm of each neuron's row of the transposed fc2 [ffn_dim]. */
  outputNorms(layer: number): Promise<Float32Array>;
  close(): Promise<void>;
}

export interface WorkbenchOptions {
  readonly text: string;
  /** File of the documents to run on; by default those of `text` that follow the captured ones. */
  readonly check?: string | undefined;
  readonly rows: number;
  readonly layers: readonly number[];
  readonly checkDocuments: number;
}

export async function openWorkbench(options: WorkbenchOptions): Promise<Workbench> {
  const { text, check, rows, layers, checkDocuments } = options;
  const engine = await load();
  const { tokenizer, model } = engine;
  const maxLength = model.shape.maxPositions;
  const { documents } = await readCorpus([text], tokenizer, { maxIds: rows, maxLength });
  if (!documents.some((_, number) => isHeldOut(number)))
    throw new Error(`--rows ${rows} are too few: every twentieth document is held out, and there is none`);
  const skip = check === undefined ? documents.length : 0;
  const others = await readCorpus([check ?? text], tokenizer, {
    maxDocuments: skip + checkDocuments,
    maxLength,
  });
  const folder = await mkdtemp(join(tmpdir(), "dejavu-experiment-"));
  await capture(engine, { sources: [], documents }, folder, () => {});
  const observed = await observe(engine, documents, layers);
  const { fingerprint } = await engine.identity();
  return {
    engine,
    layers,
    documents,
    check: others.documents.slice(skip),
    observed,
    folder,
    async rows(layer, tap) {
      const source = tap.startsWith("residual") ? "mlp-input" : (tap as Source);
      const base = await loadRows(folder, layer, "neurons", model.shape.ffnDim, source, fingerprint);
      if (tap === "residual-before-attention") return { ...base, inputs: observed.beforeAttention[layer]! };
      if (tap === "residual-before-mlp") return { ...base, inputs: observed.beforeMlp[layer]! };
      return base;
    },
    outputNorms: (layer) => outputNorms(engine, layer),
    async close() {
      await rm(folder, { recursive: true, force: true });
      engine.dispose();
    },
  };
}

async function outputNorms(engine: Engine, layer: number): Promise<Float32Array> {
  const weights = await openWeights(engine.folder);
  try {
    const { ffnDim } = engine.model.shape;
    const fc2 = await readMatrix(weights, `model.decoder.layers.${layer}.fc2.weight`);
    const sums = new Float32Array(ffnDim);
    for (const [i, value] of fc2.entries()) sums[i % ffnDim]! += value * value;
    return sums.map(Math.sqrt);
  } finally {
    await weights.close();
  }
}

/** capture → train → calibrate → bundle, on one engine and the same weights that will run. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCorpus } from "../eval/documents.ts";
import { score } from "../eval/score.ts";
import type { Engine } from "../load.ts";
import { blockRows } from "../models/feed.ts";
import { createRng } from "../sampling/rng.ts";
import { type BundleMetadata, bundleVersion, writeBundle } from "../sparsity/bundle.ts";
import { predictedScorer } from "../sparsity/predictor.ts";
import { ScoredSelector, type Source, type UnitKind } from "../sparsity/selector.ts";
import { createBreather } from "../util/breathe.ts";
import { UsageError } from "../util/errors.ts";
import { version } from "../util/version.ts";
import { calibrateHeads } from "./calibrate-heads.ts";
import { capture } from "./capture.ts";
import { prepareLayer } from "./prepare-layer.ts";
import { type PrepareOptions, type ResolvedPrepareOptions, resolveOptions } from "./prepare-options.ts";
import { bundleTensors, type PreparedLayer, predictorOnDevice } from "./prepared-layer.ts";
import { isHeldOut } from "./rows.ts";

/** Documents that the loss is measured on, for heads and for the perplexity that the bundle states. */
const checkDocuments = 24;

const headSource = (source: Source): Source => (source === "mlp-input" ? "attention-input" : source);

/**
 * Makes a bundle for the engine's model and writes it to `options.out`, whole or not at all.
 * The same engine, texts and options give the same file, bit for bit.
 * @returns the bundle's metadata
 * @throws UsageError for options and texts, WeightsError when the disk refuses, the signal's reason when aborted
 */
export async function prepare(engine: Engine, options: PrepareOptions): Promise<BundleMetadata> {
  const { onProgress = () => {}, signal } = options;
  const resolved = resolveOptions(options);
  const { model, tokenizer } = engine;
  const corpus = await readCorpus(resolved.texts, tokenizer, {
    maxIds: resolved.rows,
    maxLength: model.shape.maxPositions,
  });
  const heldOut = corpus.documents.filter((_, number) => isHeldOut(number));
  if (heldOut.length === 0)
    throw new UsageError(
      `${corpus.documents.length} documents are too few: every twentieth is held out. Give more text, or raise --rows`,
    );
  const folder = resolved.captureFolder ?? (await mkdtemp(join(tmpdir(), "dejavu-capture-")));
  try {
    const rows = await capture(
      engine,
      corpus,
      folder,
      (done, total) => onProgress("capture", done, total),
      signal,
    );
    const { prepared, heldOutRows } = await prepareAllLayers(engine, folder, resolved, onProgress, signal);
    const documents = heldOut.slice(0, checkDocuments);
    const heads = await headPolicy(engine, prepared, documents, resolved, onProgress, signal);
    const draft = { prepared, heads, documents };
    const perplexity = await checkPerplexity(engine, draft, onProgress, signal);
    const { texts: _texts, out, captureFolder: _folder, ...recorded } = resolved;
    const metadata: BundleMetadata = {
      version: bundleVersion,
      model: await engine.identity(),
      sources: { heads: headSource(resolved.source), neurons: resolved.source },
      policy: policyOf(draft),
      curve: [],
      search: null,
      calibration: { ...calibrationOf(draft), perplexity },
      provenance: {
        program: `dejavu ${version}`,
        texts: [...corpus.sources],
        documents: corpus.documents.length,
        rows,
        heldOutRows,
        options: recorded,
        kernels: `${engine.kernels.name} ${engine.kernels.instructionSet}`,
      },
    };
    signal?.throwIfAborted();
    await writeBundle(out, metadata, bundleTensors(prepared));
    return metadata;
  } finally {
    if (resolved.captureFolder === undefined) await rm(folder, { recursive: true, force: true });
  }
}

type Prepared = Readonly<Record<UnitKind, readonly PreparedLayer[]>>;
interface Draft {
  readonly prepared: Prepared;
  readonly heads: Awaited<ReturnType<typeof calibrateHeads>>;
  readonly documents: readonly Int32Array[];
}
type Progress = NonNullable<PrepareOptions["onProgress"]>;

async function prepareAllLayers(
  engine: Engine,
  folder: string,
  options: ResolvedPrepareOptions,
  onProgress: Progress,
  signal: AbortSignal | undefined,
): Promise<{ prepared: Prepared; heldOutRows: number }> {
  const { layers } = engine.model.shape;
  const rng = createRng(options.seed);
  const breathe = createBreather(signal);
  const prepared: Record<UnitKind, PreparedLayer[]> = { heads: [], neurons: [] };
  let heldOutRows = 0;
  for (let layer = 0; layer < layers; layer++)
    for (const unit of ["heads", "neurons"] as const) {
      const base = layer * 2 + (unit === "neurons" ? 1 : 0);
      const report = (share: number) => onProgress("train", base + share, layers * 2);
      const source = unit === "heads" ? headSource(options.source) : options.source;
      const made = await prepareLayer({ engine, folder, layer, unit, source, options, rng, report, breathe });
      prepared[unit].push(made.layer);
      heldOutRows = made.heldOutRows;
      report(1);
    }
  return { prepared, heldOutRows };
}

const policyOf = ({ prepared, heads }: Pick<Draft, "prepared" | "heads">): BundleMetadata["policy"] => ({
  attention: "dense-kv",
  heads: [...heads.policy],
  neurons: prepared.neurons.map((layer) =>
    layer.parameters === null ? { kind: "dense" } : { kind: "threshold", threshold: layer.point.threshold },
  ),
});

function calibrationOf({ prepared, heads }: Draft): Omit<BundleMetadata["calibration"], "perplexity"> {
  const rank = (layer: PreparedLayer) => layer.parameters?.rank ?? 0;
  return {
    heads: prepared.heads.map((layer, l) => {
      const policy = heads.policy[l]!;
      const density = policy.kind === "topK" ? policy.k / layer.units : 1;
      return { rank: rank(layer), density, recall: heads.recall[l]!, precision: heads.recall[l]! };
    }),
    neurons: prepared.neurons.map((layer) => {
      const { density, recall, precision } = layer.point;
      return { rank: rank(layer), density, recall, precision };
    }),
  };
}

async function headPolicy(
  engine: Engine,
  prepared: Prepared,
  documents: readonly Int32Array[],
  options: ResolvedPrepareOptions,
  onProgress: Progress,
  signal: AbortSignal | undefined,
): Promise<Draft["heads"]> {
  const device = predictorOnDevice(engine.kernels, prepared);
  const report = (done: number, total: number) => onProgress("heads", done, total);
  try {
    return await calibrateHeads(engine, device.predictors, documents, options.headTolerance, report, signal);
  } finally {
    device.dispose();
  }
}

async function checkPerplexity(
  engine: Engine,
  draft: Draft,
  onProgress: Progress,
  signal: AbortSignal | undefined,
) {
  const device = predictorOnDevice(engine.kernels, draft.prepared);
  const scorer = predictedScorer(engine.kernels, device.predictors, blockRows);
  const selector = new ScoredSelector("predicted", engine.kernels, scorer, policyOf(draft));
  const report = (done: number, total: number) => onProgress("check", done, total);
  try {
    const result = await score(engine, draft.documents, selector, { onProgress: report, signal });
    return { dense: result.densePerplexity, predicted: result.perplexity };
  } finally {
    selector.dispose();
    device.dispose();
  }
}

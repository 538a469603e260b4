/** capture → train → calibrate → bundle, on one engine and the same weights that will run. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Engine } from "../load.ts";
import { createRng } from "../sampling/rng.ts";
import { type BundleMetadata, bundleVersion, writeBundle } from "../sparsity/bundle.ts";
import type { Source, UnitKind } from "../sparsity/selector.ts";
import { createBreather } from "../util/breathe.ts";
import { version } from "../util/version.ts";
import { withBatches } from "./batch-thresholds.ts";
import { decideByBudget } from "./by-budget.ts";
import { decideByRecall } from "./by-recall.ts";
import { capture } from "./capture.ts";
import type { Progress } from "./decided.ts";
import { chooseHeadTarget, type HeadImportance, measureHeadImportance } from "./head-importance.ts";
import { readTexts } from "./held-out.ts";
import { type LayerJob, prepareLayer } from "./prepare-layer.ts";
import { type PrepareOptions, type ResolvedPrepareOptions, resolveOptions } from "./prepare-options.ts";
import { prepareShadow } from "./prepare-shadow.ts";
import { bundleTensors, type Prepared, type PreparedLayer } from "./prepared-layer.ts";

const headSource = (source: Source): Source => (source === "mlp-input" ? "attention-input" : source);

const sourcesOf = ({ predictor, source }: ResolvedPrepareOptions): BundleMetadata["sources"] =>
  predictor === "shadow"
    ? { heads: "first-block", neurons: "first-block" }
    : { heads: headSource(source), neurons: source };

/**
 * Makes a bundle for the engine's model and writes it to `options.out`, whole or not at all.
 * The same engine, texts and options give the same file, bit for bit.
 * @returns the bundle's metadata
 * @throws UsageError for options and texts, WeightsError when the disk refuses, the signal's reason when aborted
 */
export async function prepare(engine: Engine, options: PrepareOptions): Promise<BundleMetadata> {
  const { onProgress = () => {}, signal } = options;
  const resolved = resolveOptions(options);
  const { captured: corpus, heldOut, halves } = await readTexts(engine, resolved);
  const target = await chooseHeadTarget(engine, resolved);
  const folder = resolved.captureFolder ?? (await mkdtemp(join(tmpdir(), "dejavu-capture-")));
  try {
    const rows = await capture(
      engine,
      corpus,
      folder,
      (done, total) => onProgress("capture", done, total),
      signal,
    );
    const onIds = (done: number, total: number) => onProgress("importance", done, total);
    const importance =
      target === "importance" ? await measureHeadImportance(engine, corpus.documents, onIds, signal) : null;
    const trained = await train(engine, folder, resolved, importance, onProgress, signal);
    const budget = resolved.maxPerplexityIncrease;
    const { prepared, ...decided } =
      budget === undefined
        ? await decideByRecall(engine, trained.prepared, heldOut, resolved, onProgress, signal)
        : await decideByBudget(engine, { prepared: trained.prepared, halves, budget }, onProgress, signal);
    const metadata: BundleMetadata = {
      version: bundleVersion,
      model: await engine.identity(),
      predictor: resolved.predictor,
      sources: sourcesOf(resolved),
      targets: { heads: target, neurons: "active" },
      ...decided,
      policy: withBatches(decided.policy, prepared.neurons),
      curve: decided.curve.map((point) => ({
        ...point,
        policy: withBatches(point.policy, prepared.neurons),
      })),
      provenance: {
        program: `dejavu ${version}`,
        texts: [...corpus.sources],
        documents: corpus.documents.length,
        rows,
        heldOutRows: trained.heldOutRows,
        options: recordedOptions(resolved),
        kernels: `${engine.kernels.name} ${engine.kernels.instructionSet}`,
      },
    };
    signal?.throwIfAborted();
    await writeBundle(resolved.out, metadata, bundleTensors(resolved.predictor, prepared));
    return metadata;
  } finally {
    if (resolved.captureFolder === undefined) await rm(folder, { recursive: true, force: true });
  }
}

/** Options as a bundle states them: no paths, none that had no say, and none that the metadata states elsewhere. */
function recordedOptions(options: ResolvedPrepareOptions): Record<string, number | string> {
  const {
    texts: _texts,
    out: _out,
    captureFolder: _folder,
    predictor,
    headTarget: _target,
    ...rest
  } = options;
  const { maxPerplexityIncrease, curveRows, headTolerance, source, rank, hidden, ...shared } = rest;
  const recorded = { ...(predictor === "shadow" ? { hidden } : { source, rank }), ...shared };
  if (maxPerplexityIncrease === undefined) return { ...recorded, headTolerance };
  return { ...recorded, maxPerplexityIncrease, curveRows };
}

async function train(
  engine: Engine,
  folder: string,
  options: ResolvedPrepareOptions,
  importance: HeadImportance | null,
  onProgress: Progress,
  signal: AbortSignal | undefined,
): Promise<{ prepared: Prepared; heldOutRows: number }> {
  const rng = createRng(options.seed);
  const breathe = createBreather(signal);
  const shared = { engine, folder, options, rng, breathe };
  if (options.predictor === "per-layer") return prepareAllLayers({ ...shared, importance }, onProgress);
  if (importance === null) throw new Error("one predictor for all layers needs importances");
  const made = await prepareShadow({
    ...shared,
    importance,
    report: (share) => onProgress("train", share, 1),
  });
  onProgress("train", 1, 1);
  return made;
}

async function prepareAllLayers(
  job: Omit<LayerJob, "layer" | "unit" | "source" | "report">,
  onProgress: Progress,
): Promise<{ prepared: Prepared; heldOutRows: number }> {
  const { layers } = job.engine.model.shape;
  const { source: mlpSource } = job.options;
  const prepared: Record<UnitKind, PreparedLayer[]> = { heads: [], neurons: [] };
  let heldOutRows = 0;
  for (let layer = 0; layer < layers; layer++)
    for (const unit of ["heads", "neurons"] as const) {
      const base = layer * 2 + (unit === "neurons" ? 1 : 0);
      const report = (share: number) => onProgress("train", base + share, layers * 2);
      const source = unit === "heads" ? headSource(mlpSource) : mlpSource;
      const made = await prepareLayer({ ...job, layer, unit, source, report });
      prepared[unit].push(made.layer);
      heldOutRows = made.heldOutRows;
      report(1);
    }
  return { prepared, heldOutRows };
}

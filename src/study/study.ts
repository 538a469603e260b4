/** The study: all parts in their order, each kept once it is finished, and the numbers of the report. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import { DenseModel, roomToKeep } from "../eval/dense-model.ts";
import { type Corpus, readCorpus } from "../eval/documents.ts";
import type { Engine } from "../load.ts";
import { version } from "../util/version.ts";
import { bytesByPart } from "./bytes.ts";
import { observe } from "./observe.ts";
import { curvesOf, kneeRule, partName, plannedRuns, possibleKinds, scoreRun } from "./quality.ts";
import {
  type MachineFacts,
  type Numbers,
  observation,
  type Report,
  type Scored,
  scored,
  speed,
} from "./schema.ts";
import { type SettingsChoice, type StudySettings, studySettings } from "./settings.ts";
import { measureSpeed } from "./speed.ts";
import { Store, type StudyKey } from "./store.ts";

export type StudyStage = "observe" | "quality" | "predictors" | "speed";

export interface StudyOptions extends SettingsChoice {
  readonly texts: readonly string[];
  /** Folder for results. */
  readonly out: string;
  readonly machine: MachineFacts;
  /** The command line, for the report. */
  readonly command: string;
  /** A bundle that was named must be there; one that was not is used if it is. */
  readonly needsBundle?: boolean | undefined;
  readonly onProgress?: ((stage: StudyStage, done: number, total: number) => void) | undefined;
  readonly onNote?: ((sentence: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Words of the first document that decoding is timed on. */
const promptWords = 8;

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}

/** Everything that the measurements share. */
interface Setup {
  readonly engine: Engine;
  readonly options: StudyOptions;
  readonly settings: StudySettings;
  readonly corpus: Corpus;
  readonly hasBundle: boolean;
  readonly bundleSha256: string | null;
  readonly store: Store;
  readonly progress: (stage: StudyStage) => (done: number, total: number) => void;
}

async function setUp(engine: Engine, options: StudyOptions): Promise<Setup> {
  const settings = studySettings(options, engine.model.shape);
  const corpus = await readCorpus(options.texts, engine.tokenizer, {
    maxDocuments: Math.max(settings.documents, settings.observedDocuments),
    maxLength: engine.model.shape.maxPositions,
  });
  const hasBundle = options.needsBundle === true || existsSync(engine.bundleFile);
  if (hasBundle) await engine.bundle(); // one that does not fit is found before the work
  const bundleSha256 = hasBundle ? await sha256Of(engine.bundleFile) : null;
  const { cpu, cores, threads, backend, instructionSet } = options.machine;
  const key: StudyKey = {
    program: version,
    model: (await engine.identity()).fingerprint,
    bundle: bundleSha256 ?? "none",
    texts: corpus.sources.map(({ sha256 }) => sha256).join(" "),
    settings: JSON.stringify(settings),
    machine: `${cpu}, ${cores} cores, ${threads} threads, ${backend} ${instructionSet}`,
  };
  const store = await Store.open(options.out, key, options.onNote ?? (() => {}));
  const progress = (stage: StudyStage) => (done: number, total: number) =>
    options.onProgress?.(stage, done, total);
  return { engine, options, settings, corpus, hasBundle, bundleSha256, store, progress };
}

async function observePart({ engine, options, settings, corpus, hasBundle, store, progress }: Setup) {
  return store.part("observation", observation, async () => {
    const predicted = hasBundle ? await engine.selector("predicted") : null;
    const { signal } = options;
    try {
      return await observe(engine, corpus.documents, {
        ...{ settings, predicted, signal },
        onProgress: progress("observe"),
      });
    } finally {
      predicted?.dispose();
    }
  });
}

async function qualityPart({ engine, options, settings, corpus, hasBundle, store, progress }: Setup) {
  const runs = plannedRuns(settings, engine.model.shape.heads, possibleKinds(hasBundle));
  const documents = corpus.documents.slice(0, settings.documents);
  const missing = runs.filter((run) => !store.has(partName(run))).length;
  let done = 0;
  const results: { run: (typeof runs)[number]; result: Scored }[] = [];
  const dense = new DenseModel(engine, engine.model.shape.maxPositions, roomToKeep);
  try {
    for (const run of runs) {
      const result = await store.part(partName(run), scored, async () => {
        const computed = await scoreRun(engine, documents, {
          kind: run.selector,
          densities: run.densities,
          seed: settings.seed,
          onProgress: (ids, total) => progress("quality")(done + ids / total, missing),
          signal: options.signal,
          dense,
        });
        done += 1;
        return computed;
      });
      results.push({ run, result });
    }
  } finally {
    dense.dispose();
  }
  return { documents: documents.length, results, curves: curvesOf(results) };
}

async function predictorsPart({ engine, options, settings, corpus, hasBundle, store, progress }: Setup) {
  if (!hasBundle) return null;
  return store.part("predictors", scored, () =>
    scoreRun(engine, corpus.documents.slice(0, settings.documents), {
      kind: "predicted",
      seed: settings.seed,
      onProgress: progress("predictors"),
      signal: options.signal,
    }),
  );
}

/** The beginning of the first document, as text. */
function promptOf(engine: Engine, corpus: Corpus): string {
  const ids = corpus.documents[0]!.subarray(1, 1 + promptWords);
  return engine.tokenizer.decode([...ids]).trim() || "a";
}

async function speedPart({ engine, options, settings, corpus, hasBundle, store, progress }: Setup) {
  return store.part("speed", speed, () =>
    measureSpeed(engine, {
      ...{ settings, hasBundle, prompt: promptOf(engine, corpus) },
      onProgress: progress("speed"),
      signal: options.signal,
    }),
  );
}

function modelFacts(engine: Engine, fingerprint: string): Report["model"] {
  const { parameters, dtype, bytes, shape } = engine.model;
  const { modelType: type, layers, hiddenSize, heads, ffnDim } = shape;
  const name = basename(resolve(engine.folder));
  return { name, type, fingerprint, parameters, dtype, bytes, layers, hiddenSize, heads, ffnDim };
}

async function bundleFacts({ engine, bundleSha256 }: Setup): Promise<Report["bundle"]> {
  if (bundleSha256 === null) return null;
  const { sources, provenance } = (await engine.bundle()).metadata;
  return { sha256: bundleSha256, sources: { ...sources }, provenance: { ...provenance } };
}

function settingsFacts(settings: StudySettings): Report["settings"] {
  return Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [name, Array.isArray(value) ? [...value] : value]),
  );
}

/**
 * Measures everything that is not yet in the folder.
 * @throws UsageError when a text cannot be read; BundleError when there is a bundle that does not fit; the signal's
 * reason when aborted, which leaves the finished parts in the folder
 */
export async function study(engine: Engine, options: StudyOptions): Promise<Numbers> {
  const setup = await setUp(engine, options);
  const seen = await observePart(setup);
  const predictors = await predictorsPart(setup);
  const measuredSpeed = await speedPart(setup);
  const { documents, results, curves } = await qualityPart(setup);
  const first = results[0]?.result ?? predictors!;
  return {
    version: 1,
    program: `dejavu ${version}`,
    command: options.command,
    finished: new Date().toISOString(),
    machine: options.machine,
    model: modelFacts(engine, (await engine.identity()).fingerprint),
    texts: setup.corpus.sources.map((source) => ({ ...source })),
    settings: settingsFacts(setup.settings),
    bundle: await bundleFacts(setup),
    observation: seen,
    quality: {
      documents,
      scoredIds: first.scoredIds,
      densePerplexity: first.densePerplexity,
      kneeRule,
      curves,
    },
    predictors,
    speed: measuredSpeed,
    bytes: bytesByPart(engine.model, seen.sparsity, predictors),
  };
}

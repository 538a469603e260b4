/** From flags to an engine, a selector, documents. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Corpus, readCorpus } from "../eval/documents.ts";
import { type Engine, load } from "../load.ts";
import type { Selector, SelectorKind } from "../sparsity/selector.ts";
import { UsageError } from "../util/errors.ts";
import type { Context } from "./command.ts";
import type { CommonFlags, SelectorFlags } from "./options.ts";

/** Loading is mentioned only if it takes longer than this many seconds. */
const loadPatience = 1;

/** Loads the model, hands it to `body` and disposes of it. */
export async function withEngine<T>(
  { folder, output, signal }: Context,
  flags: Pick<CommonFlags, "backend" | "threads" | "hugePages" | "mmap" | "bundle" | "dtype" | "tables">,
  body: (engine: Engine) => Promise<T>,
): Promise<T> {
  const { backend, threads, hugePages, mmap: isMapped, bundle, dtype, tables } = flags;
  const engine = await load(folder, {
    ...{ backend, threads, hugePages, isMapped, bundle, dtype, tables, signal },
    onNotice: (sentence) => output.note(sentence),
    onProgress: (done, total) => output.progress.update("loading", done, total, loadPatience),
  });
  try {
    signal.throwIfAborted();
    return await body(engine);
  } finally {
    engine.dispose();
  }
}

/** The kind asked for; else predicted if there is a bundle. A bundle named but absent is an error, not a reason to go without. */
export function selectorKind(engine: Engine, flags: SelectorFlags & CommonFlags): SelectorKind {
  if (flags.selector !== undefined) return flags.selector;
  return flags.bundle !== undefined || existsSync(engine.bundleFile) ? "predicted" : "dense";
}

/** Makes the selector that the flags describe. Dispose of it after use. */
export async function chooseSelector(
  engine: Engine,
  flags: SelectorFlags & CommonFlags,
  seed?: number,
): Promise<Selector> {
  const kind = selectorKind(engine, flags);
  const { mlpDensity, headDensity, quality, attention, refresh, source } = flags;
  const given = Object.entries({
    "--mlp-density": mlpDensity,
    "--head-density": headDensity,
    "--quality": quality,
    "--attention": attention,
    "--refresh": refresh,
    "--source": source,
  }).find(([, value]) => value !== undefined);
  if (kind === "dense" && given !== undefined) {
    const [name, value] = given;
    throw new UsageError(
      `${name} ${value} says nothing to the dense selector; choose another with --selector`,
    );
  }
  return engine.selector(kind, { mlpDensity, headDensity, quality, attention, refresh, source, seed });
}

/** The text that comes with the bundled model. */
export const sampleText = (folder: string): string => join(folder, "sample.txt");

/**
 * Reads the documents to score: the files given, else the model's sample.
 * @throws UsageError naming --text, where there is neither
 */
export async function readDocuments(
  engine: Engine,
  texts: readonly string[] | undefined,
  maxDocuments: number,
): Promise<Corpus["documents"]> {
  const sample = sampleText(engine.folder);
  if (texts === undefined && !existsSync(sample))
    throw new UsageError(`${sample}: the model comes without a sample; give a text file with --text`);
  const maxLength = engine.model.shape.maxPositions;
  return (await readCorpus(texts ?? [sample], engine.tokenizer, { maxDocuments, maxLength })).documents;
}

/** Text files → documents → ids, by one protocol for capture, calibration and evaluation. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Tokenizer } from "../text/tokenizer.ts";
import { UsageError } from "../util/errors.ts";

/** Separates documents in a text file, as in TinyStories. */
export const documentSeparator = "<|endoftext|>";

export interface TextSource {
  readonly name: string; // base name of the file
  readonly sha256: string;
}

export interface Corpus {
  readonly sources: readonly TextSource[];
  /** Ids of each document; the first is the beginning-of-sequence id. */
  readonly documents: readonly Int32Array[];
}

/** Number of ids in all documents together. */
export const countIds = (documents: readonly Int32Array[]): number =>
  documents.reduce((sum, ids) => sum + ids.length, 0);

export interface CorpusLimits {
  /** Documents to take, from the first on. */
  readonly maxDocuments?: number | undefined;
  /** Stop once this many ids were taken. */
  readonly maxIds?: number | undefined;
  /** Ids of a document beyond this many are dropped: the context of the model. */
  readonly maxLength: number;
}

/** @throws UsageError naming the file, when it cannot be read as UTF-8 text */
async function readText(file: string): Promise<{ text: string; source: TextSource }> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    throw new UsageError(`${file}: cannot be read: ${(cause as Error).message}`, { cause });
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new UsageError(`${file}: not UTF-8 text`, { cause });
  }
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { text, source: { name: basename(file), sha256 } };
}

/**
 * Reads documents from text files, in their order.
 * A document is what stands between separators, without the white space around it.
 * @throws UsageError when a file cannot be read or no document is found
 */
export async function readCorpus(
  files: readonly string[],
  tokenizer: Tokenizer,
  limits: CorpusLimits,
): Promise<Corpus> {
  const { maxDocuments = Number.POSITIVE_INFINITY, maxIds = Number.POSITIVE_INFINITY, maxLength } = limits;
  const sources: TextSource[] = [];
  const documents: Int32Array[] = [];
  let total = 0;
  for (const file of files) {
    const { text, source } = await readText(file);
    sources.push(source);
    for (const part of text.split(documentSeparator)) {
      if (documents.length >= maxDocuments || total >= maxIds) break;
      const document = part.trim();
      if (document === "") continue;
      const ids = Int32Array.from(tokenizer.encode(document).slice(0, maxLength));
      if (ids.length < 2) continue;
      documents.push(ids);
      total += ids.length;
    }
  }
  if (documents.length === 0) throw new UsageError(`no text in ${files.join(", ")}`);
  return { sources, documents };
}

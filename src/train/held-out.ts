/** Which documents train, which calibrate, and which only report. */
import { type Corpus, countIds, readCorpus } from "../eval/documents.ts";
import type { Engine } from "../load.ts";
import { UsageError } from "../util/errors.ts";
import type { ResolvedPrepareOptions } from "./prepare-options.ts";
import { heldOutEvery, isHeldOut } from "./rows.ts";

/** Of the held-out documents among the captured ones, every other; the rest are the report's. */
export const isCalibrated = (document: number): boolean =>
  isHeldOut(document) && Math.floor(document / heldOutEvery) % 2 === 0;

export interface Halves {
  /** Thresholds, the search and its choices come from these. */
  readonly calibrated: readonly Int32Array[];
  /** Nothing comes from these but the figures of the report, and its veto. */
  readonly reported: readonly Int32Array[];
}

export interface Texts {
  /** What is captured; predictors are trained on its documents that are not held out. */
  readonly captured: Corpus;
  /** The captured documents that are held out. */
  readonly heldOut: readonly Int32Array[];
  readonly halves: Halves;
}

/**
 * Splits documents: captured are the first ones, until `rows` ids are taken. Held out are every twentieth of these and,
 * if there is text left, the documents after them, which no predictor was trained on either. Each half takes documents in
 * turn until it has `halfIds` ids.
 */
export function splitTexts(corpus: Corpus, rows: number, halfIds: number): Texts {
  const { documents, sources } = corpus;
  let ids = 0;
  const end = documents.findIndex((document) => (ids += document.length) >= rows) + 1 || documents.length;
  const captured = documents.slice(0, end);
  const halves = { calibrated: [] as Int32Array[], reported: [] as Int32Array[] };
  const give = (half: "calibrated" | "reported", document: Int32Array) => {
    if (countIds(halves[half]) < halfIds) halves[half].push(document);
  };
  for (const [number, document] of captured.entries())
    if (isHeldOut(number)) give(isCalibrated(number) ? "calibrated" : "reported", document);
  for (const [number, document] of documents.slice(end).entries())
    give(number % 2 === 0 ? "calibrated" : "reported", document);
  return {
    captured: { sources, documents: captured },
    heldOut: captured.filter((_, number) => isHeldOut(number)),
    halves,
  };
}

/** @throws UsageError when the texts hold too little */
export async function readTexts(engine: Engine, options: ResolvedPrepareOptions): Promise<Texts> {
  const { texts, rows, maxPerplexityIncrease: budget, curveRows } = options;
  const isSearched = budget !== undefined;
  const { model, tokenizer } = engine;
  const maxLength = model.shape.maxPositions;
  // Documents are taken in turn, so one half may be a document longer than the other.
  const maxIds = rows + (isSearched ? curveRows + 2 * maxLength : 0);
  const corpus = await readCorpus(texts, tokenizer, { maxIds, maxLength });
  const split = splitTexts(corpus, rows, curveRows / 2);
  const documents = split.captured.documents.length;
  if (split.heldOut.length === 0)
    throw new UsageError(
      `${documents} documents are too few: every twentieth is held out. Give more text, or raise --rows`,
    );
  if (isSearched && split.halves.reported.length === 0)
    throw new UsageError(
      `${documents} documents are too few to calibrate on one half of the held-out ones and report on the other. Give more text`,
    );
  return split;
}

/** One dense pass over documents: true sets, head norms, likeness of layers and tokens, unions of batches. */
import { countIds } from "../eval/documents.ts";
import type { Engine } from "../load.ts";
import { blockRows, feed } from "../models/feed.ts";
import { createRng, type Rng } from "../sampling/rng.ts";
import type { Selector } from "../sparsity/selector.ts";
import type { RecordedKind } from "../train/recorder.ts";
import { type LayerRows, LayerStatistics, trueSets } from "./layer-statistics.ts";
import type { Bits } from "./math.ts";
import { Observer } from "./observer.ts";
import type { Observation } from "./schema.ts";
import type { StudySettings } from "./settings.ts";
import { anyTokenOverlap, batchUnions, type Sample } from "./union.ts";

/** Tokens kept of each document for drawing batches. */
const samplesPerDocument = 4;
/** Pairs of tokens drawn for the overlap that any two tokens have. */
const pairs = 400;

/** Positions to keep of a document of `length` ids; never the first, the same in all of them. */
function samplePositions(length: number, rng: Rng): Set<number> {
  const positions = new Set<number>();
  const wanted = Math.min(samplesPerDocument, length - 1);
  while (positions.size < wanted) positions.add(1 + rng.nextInt(length - 1));
  return positions;
}

/** What one forward left in all layers. */
async function readLayers(observer: Observer, engine: Engine, rows: number): Promise<LayerRows[]> {
  const { layers, hiddenSize, heads, ffnDim } = engine.model.shape;
  const read = async (kind: RecordedKind, layer: number, width: number) => {
    const values = new Float32Array(rows * width);
    await observer.read(kind, layer, values);
    return values;
  };
  const all: LayerRows[] = [];
  for (let layer = 0; layer < layers; layer++)
    all.push({
      rows,
      attentionInput: await read("attentionInput", layer, hiddenSize),
      mlpInput: await read("mlpInput", layer, hiddenSize),
      headNorm: await read("headNorm", layer, heads),
      sets: trueSets(await read("activation", layer, ffnDim), rows, ffnDim),
    });
  return all;
}

/** Looks at one document after the other. */
class Watch {
  readonly samples: Sample[][] = [];
  readonly statistics: LayerStatistics[];
  readonly #engine: Engine;
  readonly #observer: Observer;
  readonly #rng: Rng;

  constructor(engine: Engine, observer: Observer, rng: Rng) {
    const { layers, ffnDim, heads } = engine.model.shape;
    this.statistics = Array.from({ length: layers }, (_, l) => new LayerStatistics(l, ffnDim, heads));
    this.#engine = engine;
    this.#observer = observer;
    this.#rng = rng;
  }

  async document(ids: Int32Array, signal: AbortSignal | undefined): Promise<void> {
    const { model } = this.#engine;
    const positions = samplePositions(ids.length, this.#rng);
    const samples: Sample[] = [];
    for (const layer of this.statistics) layer.begin();
    const state = model.createState({ capacity: ids.length, maxRows: blockRows });
    const afterBlock = async (start: number, rows: number) => {
      const layers = await readLayers(this.#observer, this.#engine, rows);
      for (const [l, data] of layers.entries())
        this.statistics[l]!.add(data, layers[l + 1]?.attentionInput ?? null);
      const kept = Array.from({ length: rows }, (_, r) => r).filter((r) => positions.has(start + r));
      if (kept.length > 0) samples.push(...(await this.#keep(layers, kept, rows)));
    };
    try {
      await feed(model, state, ids, this.#observer, "none", { afterBlock, signal });
    } finally {
      state.dispose();
    }
    this.samples.push(samples);
  }

  async #keep(layers: readonly LayerRows[], kept: readonly number[], rows: number): Promise<Sample[]> {
    const chosen: (Bits[] | null)[] = [];
    for (const layer of layers.keys()) chosen.push(await this.#observer.chosen(layer, rows));
    return kept.map((r) => ({
      trueSets: layers.map(({ sets }) => sets[r]!),
      predictedSets: chosen.map((sets) => sets?.[r] ?? null),
    }));
  }
}

export interface ObserveOptions {
  readonly settings: StudySettings;
  /** Its neurons are chosen on the dense run's inputs; null where there is no bundle. */
  readonly predicted: Selector | null;
  readonly onProgress: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** @param documents ids of each document, at least two */
export async function observe(
  engine: Engine,
  documents: readonly Int32Array[],
  { settings, predicted, onProgress, signal }: ObserveOptions,
): Promise<Observation> {
  const { shape } = engine.model;
  const looked = documents
    .slice(0, settings.observedDocuments)
    .map((ids) => ids.subarray(0, settings.observedLength));
  const rng = createRng(settings.seed);
  const observer = new Observer(engine.kernels, shape, blockRows, predicted);
  try {
    const watch = new Watch(engine, observer, rng);
    for (const [d, ids] of looked.entries()) {
      await watch.document(ids, signal);
      onProgress(d + 1, looked.length);
    }
    const { statistics, samples } = watch;
    const overlap = anyTokenOverlap(samples, pairs, rng);
    return {
      documents: looked.length,
      tokens: countIds(looked),
      sparsity: statistics.map((layer) => layer.sparsity()),
      similarity: statistics.map((layer, l) => layer.similarity(l === shape.layers - 1, overlap[l]!)),
      union: batchUnions(
        samples,
        settings.batchSizes,
        settings.draws,
        shape.ffnDim,
        observer.hasPredictor,
        rng,
      ),
    };
  } finally {
    observer.dispose();
  }
}

/** All selectors at equal densities of one kind of unit, the other kind dense: what a choice is worth. */
import { DenseModel, roomToKeep } from "../eval/dense-model.ts";
import { score } from "../eval/score.ts";
import type { Engine } from "../load.ts";
import type { UnitKind } from "../sparsity/selector.ts";

export const contenders = ["oracle", "predicted", "static", "random"] as const;
type Contender = (typeof contenders)[number];

export interface Comparison {
  /** Perplexity of the dense model. */
  readonly dense: number;
  readonly unit: UnitKind;
  /** Perplexities. */
  readonly rows: readonly ({ readonly density: number } & Readonly<Record<Contender, number>>)[];
}

export interface CompareOptions {
  readonly unit: UnitKind;
  readonly densities: readonly number[];
  /** Of the random selector. */
  readonly seed: number;
  readonly onProgress: (done: number, total: number) => void;
  readonly signal: AbortSignal;
}

export async function compare(
  engine: Engine,
  documents: readonly Int32Array[],
  { unit, densities, seed, onProgress, signal }: CompareOptions,
): Promise<Comparison> {
  const runs = densities.length * contenders.length;
  let done = 0;
  let dense = Number.NaN;
  const beside = new DenseModel(engine, engine.model.shape.maxPositions, roomToKeep);
  const perplexityOf = async (kind: Contender, density: number): Promise<number> => {
    const densityOf = unit === "heads" ? { headDensity: density } : { mlpDensity: density };
    const selector = await engine.selector(kind, { ...densityOf, seed });
    const report = (ids: number, total: number) => onProgress(done + ids / total, runs);
    try {
      const { perplexity, densePerplexity } = await score(engine, documents, selector, {
        onProgress: report,
        signal,
        dense: beside,
      });
      dense = densePerplexity;
      done += 1;
      return perplexity;
    } finally {
      selector.dispose();
    }
  };
  const rows: Comparison["rows"][number][] = [];
  try {
    for (const density of densities) {
      const perplexities = {} as Record<Contender, number>;
      for (const kind of contenders) perplexities[kind] = await perplexityOf(kind, density);
      rows.push({ density, ...perplexities });
    }
  } finally {
    beside.dispose();
  }
  return { dense, unit, rows };
}

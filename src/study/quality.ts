/** Quality over density: the model scored under every selector, at densities that are the same in all layers. */
import type { DenseModel } from "../eval/dense-model.ts";
import { type Score, score } from "../eval/score.ts";
import type { Engine, SelectorOptions } from "../load.ts";
import type { Selector } from "../sparsity/selector.ts";
import { knee, leastKnee } from "./math.ts";
import {
  type Curve,
  type CurveKind,
  type CurvePoint,
  type CurveUnit,
  curveKinds,
  curveUnits,
  type Scored,
} from "./schema.ts";
import type { StudySettings } from "./settings.ts";

/** Perplexity above dense that counts as nearly none. */
export const nearlyDenseIncrease = 0.01;

export const kneeRule = `Of a curve's measured points, with the dense model as its end at density 1, the knee is the inner one farthest below the straight line between the ends, density and ln(perplexity / dense) both scaled to 0 … 1 (Satopää et al. 2011, without smoothing). A curve that nowhere falls ${leastKnee} below that line has none.`;

/** One point to measure. */
export interface Run {
  readonly unit: CurveUnit;
  readonly selector: CurveKind;
  readonly asked: number;
  readonly densities: SelectorOptions;
}

/** @param heads of a layer; sizes of the head curves are whole numbers of heads */
export function plannedRuns(settings: StudySettings, heads: number, kinds: readonly CurveKind[]): Run[] {
  const headShares = settings.headCounts.map((k) => k / heads);
  const shares: Record<CurveUnit, readonly number[]> = {
    mlp: settings.mlpDensities,
    heads: headShares,
    both: headShares,
  };
  const densities = (unit: CurveUnit, share: number): SelectorOptions => ({
    ...(unit !== "heads" && { mlpDensity: share }),
    ...(unit !== "mlp" && { headDensity: share }),
  });
  return curveUnits.flatMap((unit) =>
    kinds.flatMap((selector) =>
      shares[unit].map((asked) => ({ unit, selector, asked, densities: densities(unit, asked) })),
    ),
  );
}

/** The curves that can be drawn: predicted and static need a bundle. */
export const possibleKinds = (hasBundle: boolean): CurveKind[] =>
  curveKinds.filter((kind) => hasBundle || kind === "oracle" || kind === "random");

export const partName = ({ unit, selector, asked }: Run): string =>
  `quality ${unit} ${selector} ${asked.toFixed(6)}`;

function shown(result: Score, selector: Selector): Scored {
  const { scoredIds, perplexity, densePerplexity, kl, top1Agreement, mlp, heads, layers } = result;
  const { dense, touched, mlp: mlpBytes } = result.bytesPerToken;
  return {
    ...{ scoredIds, perplexity, densePerplexity, kl, top1Agreement, mlp, heads },
    layers: [...layers],
    bytes: {
      dense,
      touched,
      mlpDense: mlpBytes.dense,
      mlpTouched: mlpBytes.touched,
      neuronPredictors: selector.bytesPerToken.neurons,
      headPredictors: selector.bytesPerToken.heads,
    },
  };
}

export interface ScoreRun {
  readonly kind: CurveKind;
  /** None: the bundle's policy. */
  readonly densities?: SelectorOptions;
  readonly seed: number;
  readonly onProgress: (ids: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
  /** The dense model to run beside, where several runs score the same documents. */
  readonly dense?: DenseModel;
}

export async function scoreRun(
  engine: Engine,
  documents: readonly Int32Array[],
  { kind, densities = {}, seed, onProgress, signal, dense }: ScoreRun,
): Promise<Scored> {
  const selector = await engine.selector(kind, { ...densities, seed });
  try {
    return shown(await score(engine, documents, selector, { onProgress, signal, dense }), selector);
  } finally {
    selector.dispose();
  }
}

/** Share of the units that a curve varies. */
export const densityOf = (unit: CurveUnit, point: CurvePoint): number =>
  unit === "mlp" ? point.mlpDensity : unit === "heads" ? point.headDensity : point.asked;

function pointOf(run: Run, result: Scored): CurvePoint {
  const { perplexity, densePerplexity, kl, top1Agreement, mlp, heads } = result;
  return {
    asked: run.asked,
    mlpDensity: mlp.density,
    headDensity: heads.density,
    perplexity,
    increase: perplexity / densePerplexity - 1,
    kl,
    top1Agreement,
  };
}

/** Collects the runs' results into curves, each sorted by density. */
export function curvesOf(results: readonly { readonly run: Run; readonly result: Scored }[]): Curve[] {
  const curves: Curve[] = [];
  for (const unit of curveUnits)
    for (const selector of curveKinds) {
      const points = results
        .filter(({ run }) => run.unit === unit && run.selector === selector)
        .map(({ run, result }) => pointOf(run, result))
        .sort((a, b) => a.asked - b.asked);
      if (points.length === 0) continue;
      const line = [
        ...points.map((point) => ({ x: densityOf(unit, point), y: Math.log1p(point.increase) })),
        { x: 1, y: 0 },
      ];
      const at = knee(line);
      const cheap = points.find(({ increase }) => increase <= nearlyDenseIncrease);
      curves.push({
        unit,
        selector,
        points,
        knee: at === null ? null : line[at]!.x,
        nearlyDense: cheap === undefined ? null : densityOf(unit, cheap),
      });
    }
  return curves;
}

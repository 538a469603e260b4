import { densityOf, nearlyDenseIncrease } from "../quality.ts";
import type { Curve, CurveKind, CurvePoint, CurveUnit, Numbers } from "../schema.ts";
import { type Chart, colours, printable, type Section, series } from "../section.ts";
import { capital, change, count, list, nats, percent, perplexity } from "../words.ts";

const unitNames: Record<CurveUnit, string> = { mlp: "MLP", heads: "heads", both: "both" };
const unitsOf: Record<CurveUnit, string> = { mlp: "neurons", heads: "heads", both: "neurons and heads" };
const colourOf: Record<CurveKind, string> = {
  oracle: colours.green,
  predicted: colours.blue,
  static: colours.orange,
  random: colours.vermilion,
};

const isBetter = (a: CurvePoint, b: CurvePoint): boolean => a.increase < b.increase;

/** The curves of a unit by selector. */
type Curves = Readonly<Partial<Record<CurveKind, Curve>>>;

const curvesFor = (curves: readonly Curve[], unit: CurveUnit): Curves =>
  Object.fromEntries(curves.filter((c) => c.unit === unit).map((c) => [c.selector, c]));

/** The density asked for that a title talks about: the knee of the best choice that can be run, else the middle. */
function spotlight(curves: Curves): number {
  const curve = curves.predicted ?? curves.oracle!;
  const { unit, points } = curve;
  const at = points.find((point) => densityOf(unit, point) === curve.knee);
  return (at ?? points[Math.floor(points.length / 2)]!).asked;
}

const pointAt = (curve: Curve | undefined, asked: number): CurvePoint | undefined =>
  curve?.points.find((point) => point.asked === asked);

function chartTitle(unit: CurveUnit, curves: Curves): string {
  const asked = spotlight(curves);
  const by = Object.values(curves).map(
    ({ selector, points }) => `${change(points.find((p) => p.asked === asked)!.increase)} ${selector}`,
  );
  return `${capital(unitNames[unit])}: perplexity at ${percent(asked)} of the ${unitsOf[unit]}: ${list(by)}`;
}

/** One panel: a measure over density, its knees ringed. */
function panel(values: readonly object[], kinds: readonly CurveKind[], y: Record<string, unknown>) {
  const encoding = {
    x: {
      field: "density",
      type: "quantitative",
      title: "share of units computed",
      axis: { format: "~%", values: [0, 0.2, 0.4, 0.6, 0.8, 1] },
      scale: { domain: [0, 1] },
    },
    y,
  };
  const color = series(
    kinds,
    kinds.map((kind) => colourOf[kind]),
  );
  return {
    width: 270,
    height: 260,
    data: { values },
    layer: [
      {
        mark: { type: "line", point: { size: 40 } },
        encoding: { ...encoding, color, ...printable(kinds) },
      },
      {
        transform: [{ filter: "datum.isKnee" }],
        mark: { type: "point", shape: "circle", size: 190, strokeWidth: 1.5, fill: null },
        encoding: { ...encoding, color },
      },
    ],
  };
}

/** Ticks at powers of ten; symlog is linear below its constant, so that no increase and a decrease have a place. */
const increaseAxis = {
  field: "increase",
  type: "quantitative",
  title: "perplexity increase over dense, %",
  scale: { type: "symlog", constant: 1 },
  axis: { values: [-10, -1, 0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e9], format: ",.0f" },
};
/** Below this a divergence is rounding, and would stretch a log axis downwards. */
const leastKl = 1e-5;
const klAxis = {
  field: "kl",
  type: "quantitative",
  title: "KL divergence from dense, nats",
  scale: { type: "log" },
  axis: { format: "~g", values: [1e-5, 1e-4, 0.001, 0.01, 0.1, 1, 10, 100] },
};

function qualityChart(unit: CurveUnit, curves: Curves): Chart {
  const kinds = Object.keys(curves) as CurveKind[];
  const all = Object.values(curves);
  const values = all.flatMap(({ selector, points, knee }) =>
    points.map((point) => ({
      series: selector,
      density: densityOf(unit, point),
      increase: point.increase * 100,
      kl: point.kl,
      isKnee: densityOf(unit, point) === knee,
    })),
  );
  return {
    id: `quality-${unit}`,
    title: chartTitle(unit, curves),
    spec: {
      spacing: 40,
      hconcat: [
        panel(values, kinds, increaseAxis),
        panel(
          values.filter(({ kl }) => kl >= leastKl),
          kinds,
          klAxis,
        ),
      ],
    },
    table: {
      columns: [
        "selector",
        "MLP density",
        "head density",
        "perplexity",
        "increase",
        "KL, nats",
        "same top token",
      ],
      rows: all.flatMap(({ selector, points }) =>
        points.map((p) => [
          selector,
          percent(p.mlpDensity),
          percent(p.headDensity),
          perplexity(p.perplexity),
          change(p.increase),
          nats(p.kl),
          percent(p.top1Agreement),
        ]),
      ),
    },
  };
}

/** Densities at which `a` is no better than `b`; where both are nearly dense, the difference says nothing. */
function failures(a: Curve | undefined, b: Curve | undefined): string[] {
  if (a === undefined || b === undefined) return [];
  return a.points
    .filter((point) => {
      const other = pointAt(b, point.asked);
      const isClose = Math.max(point.increase, other?.increase ?? 0) <= nearlyDenseIncrease;
      return other !== undefined && !isBetter(point, other) && !isClose;
    })
    .map(({ asked }) => percent(asked));
}

function kneeSentence(curves: Curves): string {
  const known = Object.values(curves).filter(({ knee }) => knee !== null);
  const none = Object.values(curves).filter(({ knee }) => knee === null);
  const parts = known.map(({ selector, knee, points, unit }) => {
    const at = points.find((point) => densityOf(unit, point) === knee)!;
    return `${percent(knee!)} by ${selector} (${change(at.increase)})`;
  });
  const text = parts.length > 0 ? `knees at ${list(parts)}` : "";
  const missing = none.length > 0 ? `no knee for ${list(none.map(({ selector }) => selector))}` : "";
  return [text, missing].filter(Boolean).join("; ");
}

function cheapSentence({ oracle, predicted }: Curves): string {
  const cheap = [oracle, predicted].filter((curve) => curve !== undefined);
  if (cheap.every(({ nearlyDense }) => nearlyDense === null))
    return "Nothing measured is within 1 % of dense.";
  const parts = cheap.map(({ selector, nearlyDense }) =>
    nearlyDense === null ? `${selector} nowhere` : `${selector} from ${percent(nearlyDense)} on`,
  );
  return `Within 1 % of dense: ${list(parts)}.`;
}

function unitSentences(unit: CurveUnit, curves: Curves): string[] {
  const { oracle, predicted, static: fixed, random } = curves;
  const name = capital(unitNames[unit]);
  const sentences = [`${name}: ${kneeSentence(curves)}. ${cheapSentence(curves)}`];
  const complain = (a: Curve | undefined, b: Curve | undefined, text: string) => {
    const at = failures(a, b);
    if (at.length > 0) sentences.push(`${name}: ${text} at ${list(at)}.`);
  };
  complain(predicted, fixed, "predicted is no better than static");
  complain(predicted, random, "predicted is no better than random");
  complain(fixed, random, "static is no better than random");
  complain(oracle, predicted, "the oracle, which ranks units by size alone, is no better than predicted");
  const last = oracle!.points.at(-1)!;
  if (oracle!.nearlyDense === null && unit !== "both")
    sentences.push(
      `${name}: even the oracle costs ${change(last.increase)} at ${percent(last.asked)}, the most that was measured: chosen by their size, this model has few ${unitsOf[unit]} to spare.`,
    );
  const [asked, own] = [spotlight(curves), predicted && pointAt(predicted, spotlight(curves))];
  const still = fixed && pointAt(fixed, asked);
  if (own && still && own.increase > 0 && isBetter(own, still))
    sentences.push(
      `${name}: what context is worth: at ${percent(asked)}, choosing for each token costs ${change(own.increase)}, one choice for all tokens ${change(still.increase)}.`,
    );
  return sentences;
}

export function qualitySection({ quality, bundle, model }: Numbers): Section {
  const { documents, scoredIds, densePerplexity, curves, kneeRule } = quality;
  const units = (["mlp", "heads", "both"] as const).filter((unit) => curves.some((c) => c.unit === unit));
  const by = units.map((unit) => [unit, curvesFor(curves, unit)] as const);
  const sentences = by.flatMap(([unit, of]) => unitSentences(unit, of));
  if (bundle === null)
    sentences.unshift(
      "There is no bundle: the curves of the predicted and the static selector, which need one, are left out.",
    );
  if (model.heads === 1) sentences.push("With one head a layer there are no curves over heads.");
  return {
    id: "quality",
    title: "Quality over density",
    method: `Perplexity over ${count(scoredIds)} tokens of ${documents} documents, every token computed sparsely; dense ${perplexity(densePerplexity)}. All layers compute the same share; what a curve does not vary stays dense, and “both” takes the same share of neurons and heads. Rings mark the knees. ${kneeRule}`,
    sentences,
    charts: by.map(([unit, of]) => qualityChart(unit, of)),
  };
}

import type { BatchUnion, Numbers } from "../schema.ts";
import { type Chart, chartWidth, colours, printable, type Section, series, shareAxis } from "../section.ts";
import { largest, percent, smallest } from "../words.ts";

/** Share of neurons that Polar Sparsity (2025) computes in OPT-6.7B, mean over layers, from its published configurations. */
const polar: readonly (readonly [number, number])[] = [
  [1, 0.095],
  [8, 0.29],
  [32, 0.517],
  [64, 0.623],
];
const polarName = "reference: OPT-6.7B, Polar Sparsity (published)";

function values(union: readonly BatchUnion[]): object[] {
  const batches = union.flatMap((u) => [
    { batch: u.batch, series: "true sets", share: u.true },
    ...(u.predicted === null ? [] : [{ batch: u.batch, series: "predicted sets", share: u.predicted }]),
  ]);
  const most = union.at(-1)!.batch;
  const reference = polar.filter(([batch]) => batch <= most);
  return [...batches, ...reference.map(([batch, share]) => ({ batch, series: polarName, share }))];
}

function unionChart(union: readonly BatchUnion[]): Chart {
  const [one, last] = [union[0]!, union.at(-1)!];
  const hasPredicted = one.predicted !== null;
  const names = ["true sets", ...(hasPredicted ? ["predicted sets"] : []), polarName];
  const palette = [colours.green, ...(hasPredicted ? [colours.blue] : []), colours.grey];
  const layers = union.flatMap(({ batch, layers: of }) =>
    of.map(({ layer, true: share }) => ({ batch, layer, share })),
  );
  const x = {
    field: "batch",
    type: "quantitative",
    title: "batch size, tokens of different documents",
    scale: { type: "log", base: 2 },
    axis: { values: union.map(({ batch }) => batch), format: "d" },
  };
  const y = shareAxis("share", "neurons that some token needs", 1);
  return {
    id: "union",
    title: `One token needs ${percent(one.true)} of the neurons, a batch of ${last.batch} needs ${percent(last.true)}`,
    spec: {
      width: chartWidth,
      height: 280,
      layer: [
        {
          data: { values: layers },
          mark: { type: "line", color: colours.green, opacity: 0.25, strokeWidth: 1 },
          encoding: { x, y, detail: { field: "layer" } },
        },
        {
          data: { values: values(union) },
          mark: { type: "line", point: { size: 45 } },
          encoding: { x, y, color: series(names, palette), ...printable(names) },
        },
      ],
    },
    table: unionTable(union),
  };
}

function unionTable(union: readonly BatchUnion[]): Chart["table"] {
  const layers = union[0]!.layers.map(({ layer }) => `true, layer ${layer}`);
  const published = new Map(polar);
  return {
    columns: ["batch", "true", "predicted", "OPT-6.7B (published)", ...layers],
    rows: union.map(({ batch, true: share, predicted, layers: of }) => [
      String(batch),
      percent(share),
      predicted === null ? "" : percent(predicted),
      published.has(batch) ? percent(published.get(batch)!) : "",
      ...of.map((layer) => percent(layer.true)),
    ]),
  };
}

function unionSentences(union: readonly BatchUnion[]): string[] {
  const [one, last] = [union[0]!, union.at(-1)!];
  const [low, high] = [smallest(last.layers, (l) => l.true), largest(last.layers, (l) => l.true)];
  const half = union.find((u) => u.true > 0.5);
  const sentences = [
    `The mean union grows from ${percent(one.true)} for one token to ${percent(last.true)} for ${last.batch}. ${half === undefined ? "It stays below one half at every size measured." : `From a batch of ${half.batch} on, more than half of the neurons are needed.`}`,
    `Layers differ: at ${last.batch}, layer ${low.layer} needs ${percent(low.true)}, layer ${high.layer} ${percent(high.true)}.`,
  ];
  if (one.predicted !== null && last.predicted !== null)
    sentences.push(
      `The union of the predicted sets, each chosen as for one token alone, goes from ${percent(one.predicted)} to ${percent(last.predicted)}${last.predicted > 0.9 ? ": at that size prediction saves next to nothing" : ""}. A bundle whose thresholds rise with the batch has less to compute.`,
    );
  const published = polar.findLast(([batch]) => batch <= last.batch)!;
  const here = union.find(({ batch }) => batch === published[0]);
  if (here !== undefined)
    sentences.push(
      `Reference, not measured here: for OPT-6.7B at a batch of ${published[0]}, Polar Sparsity computes ${percent(published[1])} (99 % recall of the union); this model's true union there is ${percent(here.true)}.`,
    );
  return sentences;
}

export function unionSection({ observation, settings }: Numbers): Section {
  const { union } = observation;
  const asked = (settings["batchSizes"] as number[]).at(-1)!;
  const most = union.at(-1)!.batch;
  return {
    id: "union",
    title: "Batches: the union of what their tokens need",
    method: `Means over ${settings["draws"]} batches of each size, each token from another document; a thin line is a layer's true union. The predicted sets are those that the bundle's policy chooses on a dense run's inputs.`,
    sentences: [
      ...unionSentences(union),
      ...(most < asked
        ? [`There are too few documents for batches of more than ${most}; ${asked} were wanted.`]
        : []),
    ],
    charts: [unionChart(union)],
  };
}

import type { LayerSparsity, Numbers } from "../schema.ts";
import {
  type Chart,
  chartWidth,
  colours,
  layerAxis,
  layerLines,
  type Section,
  shareAxis,
} from "../section.ts";
import { count, largest, percent, smallest } from "../words.ts";

/** Larger half of the heads, rounded up. */
const halfOf = (heads: number): number => Math.ceil(heads / 2);

const heldBy = ({ headShares }: LayerSparsity, k: number): number =>
  headShares.slice(0, k).reduce((sum, share) => sum + share, 0);

const average = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

function setSizes(layers: readonly LayerSparsity[]): Chart {
  const [low, high] = [smallest(layers, (l) => l.mean), largest(layers, (l) => l.mean)];
  const y = (field: string) => shareAxis(field, "neurons active for a token");
  return {
    id: "sparsity",
    title: `A token activates ${percent(average(layers.map((l) => l.mean)))} of the neurons: from ${percent(low.mean)} in layer ${low.layer} to ${percent(high.mean)} in layer ${high.layer}`,
    spec: {
      data: { values: layers },
      width: chartWidth,
      height: 260,
      encoding: { x: layerAxis },
      layer: [
        { mark: { type: "rule", color: colours.blue }, encoding: { y: y("p5"), y2: { field: "p95" } } },
        {
          mark: { type: "bar", color: colours.sky, size: Math.min(22, (chartWidth / layers.length) * 0.6) },
          encoding: { y: y("p25"), y2: { field: "p75" } },
        },
        {
          mark: {
            type: "tick",
            color: "#003f66",
            thickness: 2.5,
            size: Math.min(22, (chartWidth / layers.length) * 0.6),
          },
          encoding: { y: y("median") },
        },
      ],
    },
    table: {
      columns: ["layer", "mean", "5 %", "25 %", "median", "75 %", "95 %", "never active"],
      rows: layers.map(({ layer, mean, p5, p25, median, p75, p95, neverActive }) => [
        String(layer),
        ...[mean, p5, p25, median, p75, p95, neverActive].map(percent),
      ]),
    },
  };
}

function headNorms(layers: readonly LayerSparsity[], heads: number): Chart {
  const half = halfOf(heads);
  const names = [`largest ${half} of ${heads} heads`, "largest head", `${half} heads if all were equal`];
  const values = layers.flatMap((l) => [
    { layer: l.layer, series: names[0], share: heldBy(l, half) },
    { layer: l.layer, series: names[1], share: heldBy(l, 1) },
    { layer: l.layer, series: names[2], share: half / heads },
  ]);
  const held = average(layers.map((l) => heldBy(l, half)));
  return {
    id: "head-norms",
    title: `The larger half of the heads holds ${percent(held)} of the output norms; equal heads would hold ${percent(half / heads)}`,
    spec: layerLines(values, shareAxis("share", "share of the sum of norms", 1), names, [
      colours.blue,
      colours.orange,
      colours.grey,
    ]),
    table: {
      columns: ["layer", ...Array.from({ length: Math.min(heads, 12) }, (_, r) => `rank ${r + 1}`)],
      rows: layers.map(({ layer, headShares }) => [String(layer), ...headShares.slice(0, 12).map(percent)]),
    },
  };
}

function neuronSentences(layers: readonly LayerSparsity[], tokens: number): string[] {
  const [low, high] = [smallest(layers, (l) => l.mean), largest(layers, (l) => l.mean)];
  const mean = average(layers.map((l) => l.mean));
  const widest = largest(layers, (l) => l.p95 - l.p5);
  const dead = largest(layers, (l) => l.neverActive);
  const sentences = [
    `Over ${count(tokens)} tokens, a token activates ${percent(mean)} of the neurons on average. Layer ${low.layer} needs least (${percent(low.mean)}), layer ${high.layer} most (${percent(high.mean)}), so one density for all layers is wrong for most of them.`,
    `Sizes differ between tokens, too. Most in layer ${widest.layer}: nine of ten tokens need between ${percent(widest.p5)} and ${percent(widest.p95)} of its neurons, half of them between ${percent(widest.p25)} and ${percent(widest.p75)}.`,
  ];
  if (mean > 0.5)
    sentences.push(
      "More than half of the neurons are active: there is little for contextual sparsity to save here.",
    );
  if (dead.neverActive >= 0.01)
    sentences.push(
      `In layer ${dead.layer}, ${percent(dead.neverActive)} of the neurons were active for none of these tokens; leaving such neurons out needs no predictor.`,
    );
  return sentences;
}

function headSentence(layers: readonly LayerSparsity[], heads: number): string {
  if (heads === 1) return "With one head a layer, there is none to choose.";
  const half = halfOf(heads);
  const excess = (l: LayerSparsity) => heldBy(l, half) - half / heads;
  const [most, least] = [largest(layers, excess), smallest(layers, excess)];
  const text = `The largest ${half} of ${heads} heads hold between ${percent(heldBy(least, half))} (layer ${least.layer}) and ${percent(heldBy(most, half))} (layer ${most.layer}) of the sum of the norms.`;
  const isFlat = average(layers.map(excess)) < 0.2;
  return `${text} ${isFlat ? "That is little more than equal heads would hold, so norms alone give no reason to expect that heads can be left out." : "The norms are concentrated on few heads, as the paper describes."}`;
}

export function sparsitySection({ observation, model }: Numbers): Section {
  const { sparsity, tokens, documents } = observation;
  return {
    id: "sparsity",
    title: "How sparse each layer is",
    method: `True sets of a dense run over ${documents} documents: the neurons above zero after the ReLU. Boxes: the middle half of the tokens, with the median; lines: from the 5th to the 95th percentile. A head's norm is that of its output before the output projection.`,
    sentences: [...neuronSentences(sparsity, tokens), headSentence(sparsity, model.heads)],
    charts: [setSizes(sparsity), ...(model.heads > 1 ? [headNorms(sparsity, model.heads)] : [])],
  };
}

import type { LayerSimilarity, Numbers } from "../schema.ts";
import { type Chart, colours, layerLines, type Section, shareAxis } from "../section.ts";
import { largest, percent, smallest } from "../words.ts";

const cos = (value: number): string => value.toFixed(2);

type WithNext = LayerSimilarity & { readonly nextBlock: number };
const withNext = (layers: readonly LayerSimilarity[]): WithNext[] =>
  layers.filter((layer): layer is WithNext => layer.nextBlock !== null);

/** Below this a block ahead is another tensor, for practical purposes. */
const paperCosine = 0.95;

function cosineChart(layers: readonly LayerSimilarity[]): Chart {
  const names = ["attention-input, this block and next", "attention-input and mlp-input, this block"];
  const values = layers.flatMap((l) => [
    ...(l.nextBlock === null ? [] : [{ layer: l.layer, series: names[0], cosine: l.nextBlock }]),
    { layer: l.layer, series: names[1], cosine: l.halfBlock },
  ]);
  const next = withNext(layers);
  const title =
    next.length === 0
      ? `Half a block ahead the inputs' cosine is ${cos(layers[0]!.halfBlock)}`
      : `From block to block the inputs' cosine is ${cos(smallest(next, (l) => l.nextBlock).nextBlock)} to ${cos(largest(next, (l) => l.nextBlock).nextBlock)}; the paper reports above ${paperCosine} for residual streams`;
  const y = {
    field: "cosine",
    type: "quantitative",
    title: "mean cosine",
    scale: { domainMax: 1, zero: true },
  };
  return {
    id: "cosine",
    title,
    spec: layerLines(values, y, names, [colours.blue, colours.orange]),
    table: {
      columns: ["layer", "next block", "half a block"],
      rows: layers.map(({ layer, nextBlock, halfBlock }) => [
        String(layer),
        nextBlock === null ? "" : nextBlock.toFixed(3),
        halfBlock.toFixed(3),
      ]),
    },
  };
}

const meanOf = (layers: readonly LayerSimilarity[], key: "nextToken" | "anyTokens"): number =>
  layers.reduce((sum, layer) => sum + layer[key], 0) / layers.length;

function overlapChart(layers: readonly LayerSimilarity[]): Chart {
  const names = ["a token and the next", "tokens of different documents"];
  const values = layers.flatMap((l) => [
    { layer: l.layer, series: names[0], overlap: l.nextToken },
    { layer: l.layer, series: names[1], overlap: l.anyTokens },
  ]);
  return {
    id: "overlap",
    title: `Consecutive tokens share ${percent(meanOf(layers, "nextToken"))} of their active neurons, tokens of different documents ${percent(meanOf(layers, "anyTokens"))}`,
    spec: layerLines(values, shareAxis("overlap", "mean overlap (intersection / union)"), names, [
      colours.blue,
      colours.grey,
    ]),
    table: {
      columns: ["layer", "token and next", "different documents"],
      rows: layers.map(({ layer, nextToken, anyTokens }) => [
        String(layer),
        percent(nextToken),
        percent(anyTokens),
      ]),
    },
  };
}

function cosineSentences(layers: readonly LayerSimilarity[]): string[] {
  const next = withNext(layers);
  if (next.length === 0) return ["With one block there is no next one to compare with."];
  const [low, high] = [smallest(next, (l) => l.nextBlock), largest(next, (l) => l.nextBlock)];
  const steady = next.filter((l) => l.nextBlock >= paperCosine);
  const where =
    steady.length === next.length
      ? "Every block's input nearly is the next one's: what a predictor sees a block ahead is enough everywhere."
      : steady.length === 0
        ? `No pair of blocks reaches ${paperCosine}: a predictor that looks a block ahead reads a tensor that still changes, and pays for it with recall or density.`
        : `${steady.length} of ${next.length} pairs reach ${paperCosine}: lookahead should work there, and costs recall or density elsewhere.`;
  const half = smallest(layers, (l) => l.halfBlock);
  return [
    `The inputs of consecutive blocks are most alike from layer ${high.layer} to ${high.layer + 1} (cosine ${cos(high.nextBlock)}) and least from layer ${low.layer} to ${low.layer + 1} (${cos(low.nextBlock)}). ${where}`,
    `Within a block, from the input of attention to that of the MLP, the cosine is lowest in layer ${half.layer} (${cos(half.halfBlock)}). The two pass through norms with gains of their own, so a low cosine says less here than between equal tensors.`,
  ];
}

function overlapSentence(layers: readonly LayerSimilarity[]): string {
  const [next, any] = [meanOf(layers, "nextToken"), meanOf(layers, "anyTokens")];
  const best = largest(layers, (l) => l.nextToken);
  const text = `In one layer, a token's active neurons overlap with the next token's by ${percent(next)} on average, most in layer ${best.layer} (${percent(best.nextToken)}); tokens of different documents overlap by ${percent(any)}.`;
  const meaning =
    next < 0.5
      ? "Keeping the last token's set would miss much of the next one's: sets belong to the token, not to the text."
      : "A good part of the last token's set serves the next token.";
  const context =
    next - any < 0.05 ? " Being neighbours in a text adds little to what any two tokens share." : "";
  return `${text} ${meaning}${context}`;
}

export function similaritySection({ observation }: Numbers): Section {
  const { similarity } = observation;
  return {
    id: "similarity",
    title: "Likeness of layers and of tokens",
    method:
      "Cosines are of the tensors that predictors may read, taken after the layer norm in a pre-norm model, not of the residual stream that the paper compares: attention-input is what q, k and v read, mlp-input what fc1 reads. A norm takes away the mean and the scale that consecutive residuals share, so these cosines can be much lower than the residuals'. Overlaps are of true neuron sets.",
    sentences: [...cosineSentences(similarity), overlapSentence(similarity)],
    charts: [cosineChart(similarity), overlapChart(similarity)],
  };
}

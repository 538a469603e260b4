import type { BytesByPart, Numbers } from "../schema.ts";
import { type Chart, chartWidth, colours, type Section } from "../section.ts";
import { largest, megabytes, percent } from "../words.ts";

const partNames: Record<keyof BytesByPart, string> = {
  fc1: "fc1",
  fc2: "fc2",
  headProjections: "q and output projections",
  predictors: "predictors",
  always: "always read",
};
const parts = Object.keys(partNames) as (keyof BytesByPart)[];
const palette = [colours.blue, colours.sky, colours.orange, colours.vermilion, colours.grey];

const total = (bytes: BytesByPart): number => parts.reduce((sum, part) => sum + bytes[part], 0);
const mlp = ({ fc1, fc2, predictors }: BytesByPart): number => fc1 + fc2 + predictors;

function sides({ dense, touched, trueSets }: Numbers["bytes"]): [string, BytesByPart][] {
  const own: [string, BytesByPart][] = touched === null ? [] : [["predicted", touched]];
  return [["dense", dense], ...own, ["true sets, known for nothing", trueSets]];
}

function bytesChart(bytes: Numbers["bytes"]): Chart {
  const all = sides(bytes);
  const { dense, touched, trueSets } = bytes;
  const values = all.flatMap(([series, side]) =>
    parts.map((part, order) => ({ series, part: partNames[part], order, mega: side[part] / 1e6 })),
  );
  const [name, shown] = touched === null ? ["its true sets", trueSets] : ["the bundle", touched];
  return {
    id: "bytes",
    title: `With ${name} a token reads ${percent(total(shown) / total(dense))} of the weights that a dense one reads: ${megabytes(total(shown))} of ${megabytes(total(dense))}`,
    spec: {
      data: { values },
      width: chartWidth - 60,
      height: { step: 40 },
      mark: { type: "bar", stroke: "white", strokeWidth: 1 },
      encoding: {
        y: {
          field: "series",
          type: "nominal",
          sort: all.map(([side]) => side),
          title: null,
        },
        x: { field: "mega", type: "quantitative", title: "MB of weights read per token", stack: "zero" },
        color: {
          field: "part",
          type: "nominal",
          title: null,
          sort: parts.map((part) => partNames[part]),
          scale: { domain: parts.map((part) => partNames[part]), range: palette },
        },
        order: { field: "order" },
      },
    },
    table: {
      columns: ["", ...parts.map((part) => partNames[part]), "all", "of dense"],
      rows: all.map(([side, own]) => [
        side,
        ...parts.map((part) => megabytes(own[part])),
        megabytes(total(own)),
        percent(total(own) / total(dense)),
      ]),
    },
  };
}

function bytesSentences({ dense, touched, trueSets }: Numbers["bytes"]): string[] {
  const floor = `Known for nothing, the true sets would bring the MLP to ${percent(mlp(trueSets) / mlp(dense))} of its bytes and a token to ${percent(total(trueSets) / total(dense))}: no choice of neurons without loss reads less.`;
  const fixed = `${percent(dense.always / total(dense))} of a dense token's bytes are read whatever is chosen: keys, values, norms, biases and the output layer. They bound what sparsity can save.`;
  if (touched === null) return [floor, fixed];
  const most = largest(parts, (part) => touched[part]);
  return [
    `The bundle brings a token from ${megabytes(total(dense))} to ${megabytes(total(touched))} (${percent(total(touched) / total(dense))}), the MLP with its predictors to ${percent(mlp(touched) / mlp(dense))}; the predictors themselves are ${percent(touched.predictors / total(touched))} of what is read.`,
    floor,
    `${fixed} The largest part of a sparse token: ${partNames[most]}, ${percent(touched[most] / total(touched))}.`,
  ];
}

export function bytesSection({ bytes }: Numbers): Section {
  return {
    id: "bytes",
    title: "Bytes of weights per token",
    method:
      "fc1 is read for the chosen neurons, fc2 for those of them that come out of the ReLU above zero. “Always read” are keys, values, norms, biases, embedding rows and the output layer.",
    sentences: bytesSentences(bytes),
    charts: [bytesChart(bytes)],
  };
}

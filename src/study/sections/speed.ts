import type { Numbers, Speed } from "../schema.ts";
import { type Chart, chartWidth, colours, type Section } from "../section.ts";
import { largest, microseconds, percent, rate, times } from "../words.ts";

const phaseColours = {
  predictor: colours.vermilion,
  attention: colours.orange,
  mlp: colours.blue,
  output: colours.green,
  rest: colours.grey,
} as const;
type Phase = keyof typeof phaseColours;
const phases = Object.keys(phaseColours) as Phase[];
const phaseNames: Record<Phase, string> = {
  predictor: "predictor",
  attention: "attention",
  mlp: "MLP",
  output: "output layer",
  rest: "rest",
};

type Side = Speed["dense"];
const total = (side: Side): number => phases.reduce((sum, phase) => sum + side.phases[phase], 0);

function sides({ dense, sparse }: Speed): [string, Side][] {
  return [["dense", dense], ...(sparse === null ? [] : [["predicted", sparse] as [string, Side]])];
}

function latencyChart(speed: Speed): Chart {
  const all = sides(speed);
  const values = all.flatMap(([series, side]) =>
    phases.map((phase, order) => ({
      series,
      part: phaseNames[phase],
      order,
      micro: side.phases[phase] * 1e6,
    })),
  );
  const { dense, sparse } = speed;
  const title =
    sparse === null
      ? `A dense token takes ${microseconds(total(dense))}, of which the MLP takes ${percent(dense.phases.mlp / total(dense))}`
      : `A token takes ${microseconds(total(dense))} dense and ${microseconds(total(sparse))} predicted; the MLP ${microseconds(dense.phases.mlp)} and, with its predictors, ${microseconds(sparse.phases.mlp + sparse.phases.predictor)}`;
  return {
    id: "latency",
    title,
    spec: {
      data: { values },
      width: chartWidth,
      height: { step: 44 },
      mark: { type: "bar", stroke: "white", strokeWidth: 1 },
      encoding: {
        y: { field: "series", type: "nominal", sort: all.map(([name]) => name), title: null },
        x: { field: "micro", type: "quantitative", title: "µs per token", stack: "zero" },
        color: {
          field: "part",
          type: "nominal",
          title: null,
          sort: phases.map((phase) => phaseNames[phase]),
          scale: {
            domain: phases.map((phase) => phaseNames[phase]),
            range: phases.map((phase) => phaseColours[phase]),
          },
        },
        order: { field: "order" },
      },
    },
    table: {
      columns: ["", ...phases.map((phase) => phaseNames[phase]), "all", "tokens/s, median", "quartiles"],
      rows: all.map(([name, side]) => [
        name,
        ...phases.map((phase) => microseconds(side.phases[phase])),
        microseconds(total(side)),
        rate(side.tokensPerSecond.median),
        `${rate(side.tokensPerSecond.p25)} – ${rate(side.tokensPerSecond.p75)}`,
      ]),
    },
  };
}

function sparseSentences({ dense, sparse, speedup }: Speed): string[] {
  if (sparse === null || speedup === null) return ["There is no bundle, so there is only dense to time."];
  const gain = speedup.median;
  const isSure = speedup.p25 > 1 || speedup.p75 < 1;
  const verdict = !isSure
    ? "the quartiles lie on both sides of 1, so no gain and no loss is shown"
    : gain > 1
      ? "faster"
      : "slower: here sparsity costs time";
  const saved = dense.phases.mlp - sparse.phases.mlp;
  const paid = sparse.phases.predictor;
  const most = largest(phases, (phase) => sparse.phases[phase]);
  return [
    `Predicted decodes ${rate(sparse.tokensPerSecond.median)} tokens/s (quartiles ${rate(sparse.tokensPerSecond.p25)} – ${rate(sparse.tokensPerSecond.p75)}), ${times(gain)} dense round by round (${times(speedup.p25)} – ${times(speedup.p75)}): ${verdict}.`,
    `In the MLP ${microseconds(Math.abs(saved))} a token are ${saved >= 0 ? "saved" : "lost"}, the predictors take ${microseconds(paid)}${saved > 0 ? ` (${percent(paid / saved)} of the saving)` : ""}. The largest part of a sparse token is ${phaseNames[most] === "MLP" ? "still the MLP" : phaseNames[most]}, ${percent(sparse.phases[most] / total(sparse))}.`,
  ];
}

/** The study's own work before takes no more than all cores. */
const busySentence = ({ loadBefore }: Speed, cores: number): string[] =>
  loadBefore > cores + 0.5
    ? [
        `The machine was busy with other work (load average ${loadBefore.toFixed(1)} on ${cores} cores): the ratios, taken round by round, say more than the times.`,
      ]
    : [];

export function speedSection({ speed, machine }: Numbers): Section {
  const { dense, tokens, rounds } = speed;
  const { tokensPerSecond: own } = dense;
  return {
    id: "speed",
    title: "Where the time of a token goes",
    method: `${rounds} rounds after one to warm up, in each of which all contestants decode ${tokens} tokens greedily, in alternating order; ${machine.threads} threads. The parts are medians of ${speed.profiledRounds} rounds of their own, whose marks cost a little; “rest” holds embedding and norms.`,
    sentences: [
      `Dense decodes ${rate(own.median)} tokens/s (quartiles ${rate(own.p25)} – ${rate(own.p75)}).`,
      ...sparseSentences(speed),
      ...busySentence(speed, machine.cores),
    ],
    charts: [latencyChart(speed)],
  };
}

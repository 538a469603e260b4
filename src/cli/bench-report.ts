/** What `dejavu bench` reports, and how it reads. */
import type { Bench, Spread } from "../eval/bench.ts";
import type { BatchBench } from "../eval/bench-batch.ts";
import type { PromptBench } from "../eval/bench-prompt.ts";
import { phases } from "../kernels/contract.ts";
import type { SelectorKind } from "../sparsity/selector.ts";
import type { WeightDtype } from "../tensor/dtype.ts";
import { count, gigabytesPerSecond, megabytes, percent, rate, times, weightFormat } from "./format.ts";
import { type Machine, machineText } from "./machine.ts";
import { renderTable } from "./table.ts";

export interface Reference {
  readonly tokensPerSecond: Spread;
  /** This backend over the reference backend, dense, taken round by round. */
  readonly ratio: Spread;
}

export interface BenchReport extends Bench {
  readonly machine: Machine;
  readonly model: {
    readonly name: string;
    readonly type: string;
    readonly parameters: number;
    readonly dtype: WeightDtype;
    readonly tables: WeightDtype;
    readonly bytes: number;
  };
  readonly threads: number;
  readonly selector: SelectorKind;
  /** Random weights in a published shape. */
  readonly synthetic?: { readonly layers: number; readonly publishedLayers: number };
  /** Seconds from nothing to a model in memory. */
  readonly startSeconds: number;
  /** The largest resident memory of the process so far. */
  readonly peakResidentBytes: number;
  readonly prompts?: readonly PromptBench[];
  readonly reference?: Reference;
  readonly batch?: BatchBench;
}

const range = ({ p25, p75 }: Spread, format: (value: number) => string) => `${format(p25)} – ${format(p75)}`;

function speedTable(report: BenchReport, width: number): string {
  const { dense, sparse, speedup, probe } = report;
  const ratio = (a: number, b: number) => percent(a / b);
  const rows = [
    [
      "tokens/s, median",
      rate(dense.tokensPerSecond.median),
      rate(sparse.tokensPerSecond.median),
      times(speedup.median),
    ],
    [
      "  quartiles",
      range(dense.tokensPerSecond, rate),
      range(sparse.tokensPerSecond, rate),
      range(speedup, times),
    ],
    [
      "weights read per token",
      megabytes(dense.bytesPerToken),
      megabytes(sparse.bytesPerToken),
      ratio(sparse.bytesPerToken, dense.bytesPerToken),
    ],
    [
      "read rate",
      gigabytesPerSecond(dense.gigabytesPerSecond),
      gigabytesPerSecond(sparse.gigabytesPerSecond),
      "",
    ],
  ];
  if (probe !== null)
    rows.push([
      `  of ${gigabytesPerSecond(probe.median)} from memory`,
      percent(dense.shareOfProbe!.median),
      percent(sparse.shareOfProbe!.median),
      "",
    ]);
  rows.push(
    ["MLP density", percent(1), percent(sparse.mlpDensity), ""],
    ["head density", percent(1), percent(sparse.headDensity), ""],
  );
  const titles = ["dense", report.selector, "ratio"].map((title) => ({ title }));
  return renderTable([{ title: "", align: "left" }, ...titles], rows, width);
}

function phaseTable({ dense, sparse, selector }: BenchReport, width: number): string {
  const total = (side: typeof dense) => phases.reduce((sum, phase) => sum + side.phases[phase], 0);
  const cell = (side: typeof dense, phase: (typeof phases)[number]) => [
    (side.phases[phase] * 1e6).toFixed(1),
    percent(side.phases[phase] / total(side)),
  ];
  const rows = phases.map((phase) => [phase, ...cell(dense, phase), ...cell(sparse, phase)]);
  const titles = ["dense", "share", selector, "share"].map((title) => ({ title }));
  return renderTable([{ title: "µs per token", align: "left" }, ...titles], rows, width);
}

/** Without a word, more than all of the memory's speed looks like a mistake. */
function cacheNote({ dense, sparse }: BenchReport): string {
  const shares = [dense, sparse].map(({ shareOfProbe }) => shareOfProbe?.median ?? 0);
  if (Math.max(...shares) <= 1) return "";
  return "Read rates above 100 % of memory's: weights stay in the caches, or memory was slower while it was probed.\n";
}

function batchTable({ sequences, one, dense, sparse }: BatchBench, selector: string, width: number): string {
  const row = (title: string, side: BatchBench["dense"]) => [
    title,
    rate(side.tokensPerSecond.median),
    range(side.tokensPerSecond, rate),
    times(side.overOne.median),
    percent(side.unionDensity),
  ];
  const rows = [
    ["one, dense", rate(one.tokensPerSecond.median), range(one.tokensPerSecond, rate), "", percent(1)],
    row(`${sequences} together, dense`, dense),
    row(`${sequences} together, ${selector}`, sparse),
  ];
  const titles = ["tokens/s", "quartiles", "over one", "neurons united"].map((title) => ({ title }));
  return renderTable([{ title: "sequences", align: "left" }, ...titles], rows, width);
}

function promptTable(prompts: readonly PromptBench[], width: number): string {
  const rows = prompts.map(({ length, tokensPerSecond }) => [
    count(length),
    rate(tokensPerSecond.median),
    range(tokensPerSecond, rate),
  ]);
  const titles = ["tokens/s", "quartiles"].map((title) => ({ title }));
  return renderTable([{ title: "ids of a prompt", align: "left" }, ...titles], rows, width);
}

function modelText({ model, synthetic }: BenchReport): string {
  const size = `${count(model.parameters)} parameters, ${weightFormat(model)}, ${megabytes(model.bytes)}`;
  if (synthetic === undefined) return `${model.name}: ${model.type}, ${size}`;
  const { layers, publishedLayers } = synthetic;
  const some = layers === publishedLayers ? `${layers} layers` : `${layers} of ${publishedLayers} layers`;
  return `${model.name}: ${model.type} of random weights in the published shape, ${some}, ${size}`;
}

export function benchText(report: BenchReport, width: number): string {
  const { machine, threads, tokens, rounds, reference, batch, prompts } = report;
  const lines = [
    machineText(machine),
    modelText(report),
    `in memory after ${report.startSeconds.toFixed(1)} s; at most ${megabytes(report.peakResidentBytes)} resident`,
    `threads: ${threads}; ${tokens} tokens a round, greedy; ${rounds} interleaved rounds after one to warm up`,
  ];
  const parts = [
    lines.join("\n"),
    speedTable(report, width) + cacheNote(report),
    phaseTable(report, width),
    ...(prompts ? [promptTable(prompts, width)] : []),
    ...(batch ? [batchTable(batch, report.selector, width)] : []),
  ];
  const tables = parts.map((part) => `${part.trimEnd()}\n`).join("\n");
  if (reference === undefined) return tables;
  const { tokensPerSecond, ratio } = reference;
  const against = `${rate(tokensPerSecond.median)} tokens/s dense; ${machine.backend} is ${times(ratio.median)} as fast (${range(ratio, times)})`;
  return `${tables}\nreference backend: ${against}\n`;
}

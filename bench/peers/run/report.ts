/** The tables as text, and the report as JSON. */
import { cpus } from "node:os";
import type { Measurement } from "./measure.ts";
import type { Options } from "./options.ts";
import { type Ratio, type Row, ratios, type Spread, spread, summarize } from "./summary.ts";

export interface Report {
  readonly machine: { readonly cpu: string; readonly cores: number; readonly node: string };
  readonly options: Options;
  /** GB/s, one a round. */
  readonly readBandwidth: readonly number[];
  readonly measurements: readonly Measurement[];
}

export const describeMachine = (): Report["machine"] => ({
  cpu: cpus()[0]?.model.trim() ?? process.arch,
  cores: cpus().length,
  node: process.versions.node,
});

/** Above this share of the machine's time, taken by other processes, figures are worth little. */
const muchForOthers = 0.05;

const digits = (value: number) => value.toFixed(value < 10 ? 2 : 1);
const withRange = ({ median, p25, p75 }: Spread, format = digits) =>
  `${format(median)} (${format(p25)}–${format(p75)})`;
const known = (value: number | null, format: (value: number) => string) =>
  value === null ? "–" : format(value);

/** Columns apart by two spaces; the first is aligned left, the others right. */
function renderTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!);
  return rows.map((row) => row.map(pad).join("  ").trimEnd()).join("\n");
}

function speedTable(rows: readonly Row[], prompts: readonly number[]): string {
  const head = ["", "decode t/s", ...prompts.map((length) => `prompt ${length} t/s`)];
  const body = rows.map((row) => [
    `${row.format} ${row.engine} ${row.variant}`,
    withRange(row.decode),
    ...prompts.map((length) => withRange(row.prompts.get(String(length))!)),
    (row.bytesPerToken / 1e6).toFixed(0),
    row.gigabytesPerSecond.toFixed(1),
    `${(row.probeShare * 100).toFixed(0)} %`,
    known(row.peakResidentBytes, (bytes) => (bytes / 1e9).toFixed(2)),
    known(row.startSeconds, digits),
  ]);
  return renderTable([[...head, "MB/token", "GB/s", "of probe", "peak GB", "start s"], ...body]);
}

const ratioTable = (list: readonly Ratio[]): string =>
  renderTable([
    ["dejavu over its peers", "", "", "ratio"],
    ...list.map(({ of, over, what, ratio }) => [
      of,
      what,
      `/ ${over}`,
      withRange(ratio, (x) => x.toFixed(2)),
    ]),
  ]);

/** One measurement as a line of progress. */
export function renderMeasurement(one: Measurement): string {
  const prompts = Object.entries(one.promptTokensPerSecond).map(
    ([length, rate]) => `prompt ${length} ${digits(rate)} t/s`,
  );
  const others = known(one.othersShare, (share) => `others took ${(share * 100).toFixed(0)} %`);
  return [one.variant, `decode ${digits(one.decodeTokensPerSecond)} t/s`, ...prompts, others].join(", ");
}

function othersText(measurements: readonly Measurement[]): string {
  const shares = measurements.map((one) => one.othersShare).filter((share) => share !== null);
  if (shares.length === 0) return "Load of other processes: not known on this system.";
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`;
  const most = Math.max(...shares);
  const verdict =
    most > muchForOthers ? " The machine was not quiet: trust no absolute figure, and ratios with care." : "";
  const middle = percent(spread(shares).median);
  return `Other processes took ${middle} of the machine's time, ${percent(most)} at worst.${verdict}`;
}

export function renderReport({ machine, options, readBandwidth, measurements }: Report): string {
  const { shape, rounds, threads, prompts } = options;
  const rows = summarize(measurements, readBandwidth);
  const list = ratios(measurements);
  return [
    `${machine.cpu}, ${machine.cores} cores, Node ${machine.node}; ${threads} threads each, ${rounds} rounds`,
    `${shape.name}: random weights; node-llama-cpp runs the same sizes as GPT-2, since llama.cpp has no OPT`,
    `Read probe: ${withRange(spread(readBandwidth))} GB/s. ${othersText(measurements)}`,
    ...new Set(rows.map((row) => row.details)),
    "",
    "Median (quartiles) over the rounds",
    speedTable(rows, prompts),
    ...(list.length > 0 ? ["", "Ratios within each round, median (quartiles)", ratioTable(list)] : []),
  ].join("\n");
}

/** From the measurements of all rounds to medians, and to ratios that are taken round by round. */
import { quantile } from "../../../src/util/quantile.ts";
import type { EngineName } from "../engines/job.ts";
import type { Format } from "../formats.ts";
import type { Measurement, Variant } from "./measure.ts";

export interface Spread {
  readonly median: number;
  readonly p25: number;
  readonly p75: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  return { median: quantile(sorted, 0.5), p25: quantile(sorted, 0.25), p75: quantile(sorted, 0.75) };
}

export interface Row {
  readonly engine: EngineName;
  readonly variant: Variant;
  readonly format: Format;
  readonly decode: Spread;
  readonly prompts: ReadonlyMap<string, Spread>;
  readonly bytesPerToken: number;
  readonly gigabytesPerSecond: number;
  /** Of the probe's median. */
  readonly probeShare: number;
  readonly peakResidentBytes: number | null;
  readonly startSeconds: number | null;
  readonly details: string;
}

export interface Ratio {
  /** The dejavu run over the peer. */
  readonly of: string;
  readonly over: string;
  /** Decoding, or the prompt of a length. */
  readonly what: string;
  readonly ratio: Spread;
}

const medianOrNull = (values: readonly (number | null)[]): number | null => {
  const known = values.filter((value) => value !== null);
  return known.length > 0 ? spread(known).median : null;
};

const keyOf = ({ engine, variant, format }: Measurement) => `${format} ${engine} ${variant}`;

/** In the order in which they were first measured. */
function grouped(measurements: readonly Measurement[]): Measurement[][] {
  const groups = new Map<string, Measurement[]>();
  for (const one of measurements) groups.set(keyOf(one), [...(groups.get(keyOf(one)) ?? []), one]);
  return [...groups.values()];
}

export function summarize(measurements: readonly Measurement[], probe: readonly number[]): Row[] {
  const roof = spread(probe).median;
  return grouped(measurements).map((group) => {
    const { engine, variant, format, details, promptTokensPerSecond } = group[0]!;
    const decode = spread(group.map((one) => one.decodeTokensPerSecond));
    const bytesPerToken = spread(group.map((one) => one.bytesPerToken)).median;
    const gigabytesPerSecond = (decode.median * bytesPerToken) / 1e9;
    const prompts = Object.keys(promptTokensPerSecond).map(
      (length) => [length, spread(group.map((one) => one.promptTokensPerSecond[length]!))] as const,
    );
    return {
      ...{ engine, variant, format, decode, bytesPerToken, gigabytesPerSecond, details },
      prompts: new Map(prompts),
      probeShare: gigabytesPerSecond / roof,
      peakResidentBytes: medianOrNull(group.map((one) => one.peakResidentBytes)),
      startSeconds: medianOrNull(group.map((one) => one.startSeconds)),
    };
  });
}

/** a / b of the same round, over all rounds. */
function paired(
  a: readonly Measurement[],
  b: readonly Measurement[],
  rate: (one: Measurement) => number,
): Spread {
  const byRound = new Map(b.map((one) => [one.round, rate(one)]));
  return spread(a.flatMap((one) => (byRound.has(one.round) ? [rate(one) / byRound.get(one.round)!] : [])));
}

/** The faster of the peers in each round, as one opponent for the prompt of a length. */
function fastest(peers: readonly Measurement[][], length: string): Measurement[] {
  const best = new Map<number, Measurement>();
  for (const one of peers.flat()) {
    const known = best.get(one.round);
    if (!known || one.promptTokensPerSecond[length]! > known.promptTokensPerSecond[length]!)
      best.set(one.round, one);
  }
  return [...best.values()];
}

/** dejavu over every peer of the same format: dense and sparse decoding, and the prompt over the faster peer. */
export function ratios(measurements: readonly Measurement[]): Ratio[] {
  const groups = grouped(measurements);
  return groups.flatMap((own) => {
    const { engine, variant, format, promptTokensPerSecond } = own[0]!;
    if (engine !== "dejavu") return [];
    const peers = groups.filter(([one]) => one!.engine !== "dejavu" && one!.format === format);
    const of = `dejavu ${variant} ${format}`;
    const decoding = peers.map((peer) => {
      const ratio = paired(own, peer, (one) => one.decodeTokensPerSecond);
      return { of, over: peer[0]!.engine, what: "decoding", ratio };
    });
    if (variant === "sparse" || peers.length === 0) return decoding; // the prompt runs densely
    const prompts = Object.keys(promptTokensPerSecond).map((length) => {
      const ratio = paired(own, fastest(peers, length), (one) => one.promptTokensPerSecond[length]!);
      return { of, over: "the faster peer", what: `prompt of ${length}`, ratio };
    });
    return [...decoding, ...prompts];
  });
}

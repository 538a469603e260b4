/** One engine in one format, once: a fresh process, and what it says as measurements. */
import { existsSync } from "node:fs";
import { type Checkpoint, ownWeights, type Stored } from "../checkpoints/store.ts";
import { type DejavuJob, dejavuCommand, parseDejavu } from "../engines/dejavu.ts";
import type { EngineName, Job, Timing } from "../engines/job.ts";
import type { Format } from "../formats.ts";
import type { Options } from "./options.ts";
import { runForJson, script } from "./process.ts";

export type Variant = "dense" | "sparse";

export interface Measurement {
  readonly engine: EngineName;
  readonly format: Format;
  readonly variant: Variant;
  readonly round: number;
  readonly decodeTokensPerSecond: number;
  readonly promptTokensPerSecond: Readonly<Record<string, number>>;
  /** Weights only; keys and values are as large in every engine, or half as large where they are f16. */
  readonly bytesPerToken: number;
  readonly startSeconds: number | null;
  readonly peakResidentBytes: number | null;
  readonly othersShare: number | null;
  readonly details: string;
}

/** An engine in a format; it may give several measurements. */
export interface Entrant {
  readonly engine: EngineName;
  readonly format: Format;
  measure(round: number, signal: AbortSignal): Promise<Measurement[]>;
}

export function peerEntrant(checkpoint: Checkpoint, options: Options): Entrant {
  const { engine, format, path, bytesPerToken } = checkpoint;
  const { shape, threads, prompts, tokens } = options;
  const job: Job = {
    engine,
    format,
    checkpoint: path,
    vocab: shape.vocab,
    threads,
    prompts,
    decodeTokens: tokens,
  };
  const args = script("engines/child.ts", JSON.stringify(job));
  return {
    engine,
    format,
    async measure(round, signal) {
      const { value, othersShare } = await runForJson(`${engine} ${format}`, args, signal);
      const timing = value as Timing; // this package's own child wrote it
      return [{ engine, format, variant: "dense", round, bytesPerToken, othersShare, ...timing }];
    },
  };
}

function ownJob(format: Format, weights: string, options: Options): DejavuJob {
  const { shape, ...rest } = options;
  return { ...rest, shape: shape.name, format, weights };
}

/** dejavu's checkpoint; the first run of its bench makes it. */
export const ownCheckpoint = (format: Format, options: Options): Stored =>
  ownWeights(options.cache, options.shape, format, async (path, signal) => {
    const job = { ...ownJob(format, path, options), prompts: [], tokens: 2 };
    await runForJson(`dejavu ${format}`, dejavuCommand(job), signal);
  });

export function dejavuEntrant({ format, path }: Stored, options: Options): Entrant {
  const job = ownJob(format, path, options);
  const args = dejavuCommand(job);
  return {
    engine: "dejavu",
    format,
    async measure(round, signal) {
      const { value, othersShare } = await runForJson(`dejavu ${format}`, args, signal);
      const { dense, sparse, ...both } = parseDejavu(value, job);
      const common = { engine: "dejavu", format, round, othersShare, ...both } as const;
      return [
        { ...common, variant: "dense", ...dense },
        { ...common, variant: "sparse", ...sparse },
      ];
    },
  };
}

/** GB/s that dejavu's probe reads with the same threads, in a process of its own. */
export async function measureBandwidth(threads: number, signal: AbortSignal): Promise<number> {
  const { value } = await runForJson("the read probe", script("engines/probe.ts", String(threads)), signal);
  return (value as { gigabytesPerSecond: number }).gigabytesPerSecond;
}

/** Says what to install before anything is written or timed. */
export function requireInstalled(engines: readonly EngineName[]): void {
  const packages = { "node-llama-cpp": "node-llama-cpp", "transformers.js": "@huggingface/transformers" };
  for (const engine of engines) {
    if (engine === "dejavu") continue;
    const manifest = new URL(`../node_modules/${packages[engine]}/package.json`, import.meta.url);
    if (!existsSync(manifest)) throw new Error(`${engine} is not installed: run \`npm ci\` in bench/peers`);
  }
}

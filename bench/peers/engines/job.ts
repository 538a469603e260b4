/** What an engine is asked to do in a process of its own, and what it answers. */
import { generator } from "../checkpoints/random.ts";
import type { Format } from "../formats.ts";

export const peerNames = ["node-llama-cpp", "transformers.js"] as const;
export type PeerName = (typeof peerNames)[number];
export const engineNames = ["dejavu", ...peerNames] as const;
export type EngineName = (typeof engineNames)[number];

export interface Job {
  readonly engine: PeerName;
  readonly format: Format;
  /** A GGUF file, or a model folder of transformers.js. */
  readonly checkpoint: string;
  readonly vocab: number;
  readonly threads: number;
  /** Lengths of the prompts that are timed. */
  readonly prompts: readonly number[];
  /** Tokens that are timed one by one, after `decodePrompt` of a prompt and `decodeWarmup` that are not counted. */
  readonly decodeTokens: number;
}

export const decodePrompt = 16;
export const decodeWarmup = 8;

/** Tokens that a context must hold for the job. */
export const contextFor = ({ prompts, decodeTokens }: Job): number =>
  Math.max(...prompts, decodePrompt + decodeWarmup + decodeTokens) + 8;

/** What an engine finds out itself; the bytes per token follow from the checkpoint. */
export interface Timing {
  /** By length of the prompt: from the ids to the first new token. */
  readonly promptTokensPerSecond: Readonly<Record<string, number>>;
  readonly decodeTokensPerSecond: number;
  /** From the import of the library to the loaded model. */
  readonly startSeconds: number;
  /** Null where it is not known. */
  readonly peakResidentBytes: number | null;
  /** The library's version and the code path that it chose. */
  readonly details: string;
}

/** A model that is ready; both calls start from an empty cache. */
export interface Contender {
  readonly details: string;
  /** Seconds from the ids to the first new token. */
  prompt(ids: readonly number[]): Promise<number>;
  /** `performance.now()` at each of the new tokens that follow the ids. */
  decode(ids: readonly number[], tokens: number): Promise<readonly number[]>;
  dispose(): Promise<void>;
}

/** Random ids; the lowest are left out, since vocabularies keep special tokens there. */
export function randomIds(count: number, vocab: number, seed: number): number[] {
  const next = generator(seed);
  return Array.from({ length: count }, () => 16 + (next() % (vocab - 32)));
}

/** Each prompt twice, since the first run of a length allocates; the second counts. */
async function timePrompts(contender: Contender, job: Job): Promise<Record<string, number>> {
  const rates: Record<string, number> = {};
  for (const length of job.prompts)
    for (const seed of [1, 2])
      rates[length] = length / (await contender.prompt(randomIds(length, job.vocab, length + seed)));
  return rates;
}

async function timeDecoding(contender: Contender, job: Job): Promise<number> {
  const wanted = decodeWarmup + job.decodeTokens;
  const times = await contender.decode(randomIds(decodePrompt, job.vocab, 3), wanted);
  if (times.length !== wanted) throw new Error(`${job.engine} made ${times.length} tokens, not ${wanted}`);
  return (job.decodeTokens * 1000) / (times[wanted - 1]! - times[decodeWarmup - 1]!);
}

export async function time(job: Job, open: (job: Job) => Promise<Contender>): Promise<Timing> {
  const start = performance.now();
  const contender = await open(job);
  const startSeconds = (performance.now() - start) / 1000;
  try {
    const promptTokensPerSecond = await timePrompts(contender, job);
    const decodeTokensPerSecond = await timeDecoding(contender, job);
    const peakResidentBytes = process.resourceUsage().maxRSS * 1024;
    const { details } = contender;
    return { promptTokensPerSecond, decodeTokensPerSecond, startSeconds, peakResidentBytes, details };
  } finally {
    await contender.dispose();
  }
}

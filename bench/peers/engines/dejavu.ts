/**
 * dejavu: its own command line, which times dense and sparse in turn, with synthetic weights of a shape in a checkpoint of
 * its own, mapped like those of a model.
 * Everything that is known of that command's options and of its JSON is in this file.
 */
import { fileURLToPath } from "node:url";
import type { Format } from "../formats.ts";

/** What dejavu calls the formats. By itself it keeps tables in int8 beside int4; the others' are in four bits here. */
const formats: Record<Format, { readonly dtype: string; readonly options: readonly string[] }> = {
  int4: { dtype: "int4", options: ["--tables", "int4"] },
  f16: { dtype: "f16", options: [] },
  q8: { dtype: "int8", options: [] },
};

export interface DejavuJob {
  readonly shape: string;
  readonly format: Format;
  /** Folder of the weights; the command makes it where there is none. */
  readonly weights: string;
  readonly threads: number;
  /** Lengths of the prompts that are timed. */
  readonly prompts: readonly number[];
  readonly tokens: number;
  readonly mlpDensity: number;
  readonly headDensity: number;
}

const program = fileURLToPath(new URL("../../../bin/dejavu.js", import.meta.url));

/** Arguments for Node. */
export const dejavuCommand = (job: DejavuJob): string[] => [
  program,
  "bench",
  ...["--shape", job.shape],
  ...["--dtype", formats[job.format].dtype],
  ...formats[job.format].options,
  ...["--mlp-density", String(job.mlpDensity)],
  ...["--head-density", String(job.headDensity)],
  ...(job.prompts.length > 0 ? ["--prompt-tokens", job.prompts.join(",")] : []),
  ...["--tokens", String(job.tokens)],
  ...["--threads", String(job.threads)],
  ...["--rounds", "1"],
  ...["--weights", job.weights],
  "--json",
  "--quiet",
];

export interface DejavuSide {
  readonly decodeTokensPerSecond: number;
  readonly bytesPerToken: number;
}

export interface DejavuTiming {
  readonly dense: DejavuSide;
  readonly sparse: DejavuSide;
  /** By length; the prompt runs densely in both. */
  readonly promptTokensPerSecond: Readonly<Record<string, number>>;
  readonly startSeconds: number | null;
  readonly peakResidentBytes: number | null;
  readonly details: string;
}

class Reader {
  readonly #value: unknown;
  readonly #path: string;

  constructor(value: unknown, path = "") {
    this.#value = value;
    this.#path = path;
  }

  at(key: string): Reader {
    const { record } = this;
    if (!(key in record)) throw this.#error(`has no "${key}"`);
    return new Reader(record[key], this.#path ? `${this.#path}.${key}` : key);
  }

  get record(): Record<string, unknown> {
    if (typeof this.#value !== "object" || this.#value === null || Array.isArray(this.#value))
      throw this.#error("is not an object");
    return this.#value as Record<string, unknown>;
  }

  get list(): Reader[] {
    if (!Array.isArray(this.#value)) throw this.#error("is not a list");
    return this.#value.map((item, index) => new Reader(item, `${this.#path}[${index}]`));
  }

  get positive(): number {
    const value = this.#value;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0)
      throw this.#error("is not a positive number");
    return value;
  }

  get positiveOrNull(): number | null {
    return this.#value === null ? null : this.positive;
  }

  get text(): string {
    if (typeof this.#value !== "string") throw this.#error("is not a text");
    return this.#value;
  }

  #error(problem: string): Error {
    return new Error(`the JSON of dejavu bench: ${this.#path || "the whole"} ${problem}`);
  }
}

const side = (report: Reader): DejavuSide => ({
  decodeTokensPerSecond: report.at("tokensPerSecond").at("median").positive,
  bytesPerToken: report.at("bytesPerToken").positive,
});

function promptRates(report: Reader, lengths: readonly number[]): Record<string, number> {
  const rates = Object.fromEntries(
    report
      .at("prompts")
      .list.map((one) => [one.at("length").positive, one.at("tokensPerSecond").at("median").positive]),
  );
  const absent = lengths.filter((length) => !(length in rates));
  if (absent.length > 0)
    throw new Error(`the JSON of dejavu bench has no prompt of ${absent.join(", ")} tokens`);
  return rates;
}

/** Throws with the name of the first field that is missing or wrong. */
export function parseDejavu(json: unknown, job: DejavuJob): DejavuTiming {
  const report = new Reader(json);
  const threads = report.at("threads").positive;
  if (threads !== job.threads) throw new Error(`dejavu ran ${threads} threads, not ${job.threads}`);
  const dtype = report.at("model").at("dtype").text;
  const wanted = formats[job.format].dtype;
  if (dtype !== wanted) throw new Error(`dejavu ran ${dtype}, not ${wanted}`);
  const machine = report.at("machine");
  return {
    dense: side(report.at("dense")),
    sparse: side(report.at("sparse")),
    promptTokensPerSecond: promptRates(report, job.prompts),
    startSeconds: report.at("startSeconds").positiveOrNull,
    peakResidentBytes: report.at("peakResidentBytes").positiveOrNull,
    details: `dejavu: ${machine.at("backend").text} backend, ${machine.at("instructionSet").text}`,
  };
}

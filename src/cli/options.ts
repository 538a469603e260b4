/** Flags that commands share, and parsers whose complaints name the option and the value (commander adds both). */
import { InvalidArgumentError, Option } from "commander";
import { type Backend, backends } from "../kernels/open.ts";
import { type AttentionMode, attentionModes } from "../sparsity/policy.ts";
import { type SelectorKind, type Source, selectorKinds, sources } from "../sparsity/selector.ts";
import { type WeightDtype, weightDtypes } from "../tensor/dtype.ts";

const decimalPattern = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function parseNumber(text: string): number {
  const trimmed = text.trim();
  return decimalPattern.test(trimmed) ? Number(trimmed) : Number.NaN;
}

/** A parser of integers from `least` to `most`. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  return (text) => {
    const value = parseNumber(text);
    if (!Number.isSafeInteger(value) || value < least || value > most)
      throw new InvalidArgumentError(`It must be an integer ${range}.`);
    return value;
  };
}

/** A parser of integers of at least `least`, separated by commas. */
export const integers =
  (least: number) =>
  (text: string): number[] =>
    text.split(",").map(integer(least));

/** A parser of numbers from `least` to `most`. */
export function decimal(least: number, most = Number.MAX_VALUE): (text: string) => number {
  const range = most === Number.MAX_VALUE ? `of at least ${least}` : `from ${least} to ${most}`;
  return (text) => {
    const value = parseNumber(text);
    if (!(value >= least && value <= most)) throw new InvalidArgumentError(`It must be a number ${range}.`);
    return value;
  };
}

/** A number above zero. */
export function positive(text: string): number {
  const value = parseNumber(text);
  if (!(value > 0 && value <= Number.MAX_VALUE))
    throw new InvalidArgumentError("It must be a number above 0.");
  return value;
}

/** A share in (0, 1]: 0.25, 5/6 or 25%. */
export function share(text: string): number {
  const [numerator = "", denominator = "1", ...rest] = text.split("/");
  const isPercent = text.trim().endsWith("%");
  const value = isPercent
    ? parseNumber(text.trim().slice(0, -1)) / 100
    : parseNumber(numerator) / parseNumber(denominator);
  if (rest.length > 0 || !(value > 0 && value <= 1))
    throw new InvalidArgumentError("It must be above 0 and at most 1, like 0.25, 5/6 or 25%.");
  return value;
}

/** Shares separated by commas. */
export const shares = (text: string): number[] => text.split(",").map(share);

/** Collects the values of an option that may be given several times. */
export const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];

export interface CommonFlags {
  readonly backend?: Backend;
  readonly threads?: number;
  readonly hugePages?: boolean;
  readonly mmap?: boolean;
  readonly bundle?: string;
  readonly dtype?: WeightDtype;
  readonly tables?: WeightDtype;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export const commonOptions: readonly Option[] = [
  new Option(
    "--backend <name>",
    "arithmetic to run on (default: native, else the slow reference in JavaScript)",
  ).choices(backends),
  new Option("--threads <n>", "threads of the native backend (default: all cores)").argParser(
    integer(1, 256),
  ),
  new Option(
    "--no-mmap",
    "read a checkpoint that quantize wrote into memory instead of using it in the file, which must stay as it is",
  ),
  new Option("--no-huge-pages", "keep what is made in memory out of large pages, for comparisons"),
  new Option(
    "--bundle <file>",
    "file of predictors (default: dejavu-bundle.safetensors in the model folder)",
  ),
  new Option("--dtype <format>", "format of the weights in memory (default: as they are stored)").choices(
    weightDtypes,
  ),
  new Option(
    "--tables <format>",
    "format of the embeddings and the output layer (default: that of the weights, but int8 with int4)",
  ).choices(weightDtypes),
  new Option("--json", "print one JSON document on stdout, everything else on stderr"),
  new Option("--quiet", "no progress and no remarks on stderr"),
];

export interface SelectorFlags {
  readonly selector?: SelectorKind;
  readonly mlpDensity?: number;
  readonly headDensity?: number;
  readonly quality?: number;
  readonly attention?: AttentionMode;
  readonly refresh?: number;
  readonly source?: Source;
}

const densityText = (units: string, other: string) =>
  `compute this share of the ${units} in every layer instead of what the bundle says; ${other} not given stay dense`;

export const qualityOption: Option = new Option(
  "--quality <share>",
  "perplexity increase that is acceptable, like 0.01: the cheapest point of the bundle's curve within it",
).argParser(share);

export const selectorOptions: readonly Option[] = [
  new Option(
    "--selector <kind>",
    "what decides which heads and neurons to compute (default: predicted if the bundle's file exists, else dense)",
  ).choices(selectorKinds),
  new Option("--mlp-density <share>", densityText("MLP neurons", "heads")).argParser(share),
  new Option("--head-density <share>", densityText("attention heads", "neurons")).argParser(share),
  qualityOption,
  new Option(
    "--source <tensor>",
    "refuse a bundle whose neuron predictors were trained on another tensor than this",
  ).choices(sources),
  new Option(
    "--attention <mode>",
    "keys and values of skipped heads: computed all the same, or when the head is next selected (default: what the bundle says)",
  ).choices(attentionModes),
  new Option(
    "--refresh <n>",
    "with --attention recover: all heads catch up after every n positions (default: never)",
  ).argParser(integer(1)),
];

export const seedOption = (what: string): Option =>
  new Option("--seed <n>", `seed of ${what}`).argParser(integer(0));

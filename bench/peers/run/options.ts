/** The command line of `npm run peers`. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type EngineName, engineNames } from "../engines/job.ts";
import { type Format, formatNamed, formats } from "../formats.ts";
import { type Shape, shapeNamed, shapes } from "../shapes.ts";

export interface Options {
  readonly shape: Shape;
  readonly formats: readonly Format[];
  readonly engines: readonly EngineName[];
  readonly rounds: number;
  readonly threads: number;
  readonly prompts: readonly number[];
  readonly tokens: number;
  readonly mlpDensity: number;
  readonly headDensity: number;
  readonly cache: string;
  readonly json: string | undefined;
}

const defaults = {
  shape: "opt-1.3b",
  formats: "int4,f16,q8",
  rounds: "5",
  threads: "2",
  prompt: "128,512",
  tokens: "48",
  "mlp-density": "0.095",
  "head-density": "0.5",
  cache: join(tmpdir(), "dejavu-peers"),
};

export const help = `Compares dejavu with node-llama-cpp and transformers.js: same shape, random weights, CPU only.

  npm run peers -- [options]

  --shape NAME          ${shapes.map(({ name }) => name).join(", ")} (${defaults.shape})
  --formats LIST        of ${formats.join(", ")} (${defaults.formats})
  --engines LIST        of ${engineNames.join(", ")} (all that have the shape)
  --rounds N            every engine runs once in each round, in a fresh process (${defaults.rounds})
  --threads N           of each engine (${defaults.threads})
  --prompt LIST         lengths of the prompts that are timed (${defaults.prompt})
  --tokens N            tokens decoded at batch 1 that are timed (${defaults.tokens})
  --mlp-density SHARE   neurons that dejavu's sparse run computes (${defaults["mlp-density"]})
  --head-density SHARE  heads that dejavu's sparse run computes (${defaults["head-density"]})
  --cache FOLDER        where the checkpoints are kept (${defaults.cache})
  --json FILE           writes every measurement of every round
  --help

The table goes to stdout, progress to stderr. README.md says what is compared.`;

function integer(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Error(`--${name} must be an integer from ${least} to ${most}, is "${text}"`);
}

function share(name: string, text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 1) return value;
  throw new Error(`--${name} must be above 0 and at most 1, is "${text}"`);
}

function list<T>(name: string, text: string, parse: (item: string) => T): T[] {
  const items = text.split(",").map((item) => parse(item.trim()));
  if (new Set(items).size === items.length) return items;
  throw new Error(`--${name} names something twice: "${text}"`);
}

function engineNamed(name: string): EngineName {
  const engine = engineNames.find((one) => one === name);
  if (engine) return engine;
  throw new Error(`unknown engine "${name}"; use ${engineNames.join(", ")}`);
}

/** Those that were named, or all that run the shape. */
function enginesFor(shape: Shape, text: string | undefined): EngineName[] {
  const able = engineNames.filter((name) => !(shape.isPeersOnly && name === "dejavu"));
  if (text === undefined) return able;
  const named = list("engines", text, engineNamed);
  const unable = named.find((name) => !able.includes(name));
  if (unable === undefined) return named;
  throw new Error(
    `${unable} has no shape "${shape.name}"; use another --shape, or --engines ${able.join(",")}`,
  );
}

/** Null when help is asked for. */
export function parseOptions(argv: readonly string[]): Options | null {
  const text = { type: "string" } as const;
  const names = Object.keys(defaults) as (keyof typeof defaults)[];
  const config = Object.fromEntries(names.map((name) => [name, text])) as Record<
    keyof typeof defaults,
    typeof text
  >;
  const options = { ...config, engines: text, json: text, help: { type: "boolean" } } as const;
  const { values } = parseArgs({ args: [...argv], options, strict: true, allowPositionals: false });
  if (values.help) return null;
  const given = { ...defaults, ...values };
  const shape = shapeNamed(given.shape);
  const most = shape.positions / 2;
  return {
    shape,
    formats: list("formats", given.formats, formatNamed),
    engines: enginesFor(shape, values.engines),
    rounds: integer("rounds", given.rounds, 1, 1000),
    threads: integer("threads", given.threads, 1, 256),
    prompts: list("prompt", given.prompt, (item) => integer("prompt", item, 1, most)),
    tokens: integer("tokens", given.tokens, 1, most),
    mlpDensity: share("mlp-density", given["mlp-density"]),
    headDensity: share("head-density", given["head-density"]),
    cache: given.cache,
    json: values.json,
  };
}

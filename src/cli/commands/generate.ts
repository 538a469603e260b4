/** `dejavu generate`: streams text. */
import { Option } from "commander";
import { Batch } from "../../batch.ts";
import { type GenerateOptions, type GenerateResult, generateText } from "../../generate.ts";
import type { SamplingOptions } from "../../sampling/sampling.ts";
import type { CommandSpec, Context } from "../command.ts";
import { chooseSelector, withEngine } from "../engine.ts";
import { percent, rate } from "../format.ts";
import type { Io } from "../io.ts";
import {
  type CommonFlags,
  collect,
  decimal,
  integer,
  positive,
  type SelectorFlags,
  seedOption,
  selectorOptions,
} from "../options.ts";

/** Further prompts wait until one of these has ended. */
const maxTogether = 16;

interface Flags extends CommonFlags, SelectorFlags, SamplingOptions {
  readonly prompt: string[];
  readonly maxTokens?: number;
  readonly stop?: string[];
  readonly specialTokens?: boolean;
  readonly ignoreEos?: boolean;
}

/** All of stdin, without the line break that ends it. */
async function readStdin(stdin: Io["stdin"]): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}

function requestOf(flags: Flags, prompt: string, signal: AbortSignal): GenerateOptions {
  const { temperature, topK, topP, minP, repetitionPenalty, seed, maxTokens, stop, ignoreEos } = flags;
  const sampling = { temperature, topK, topP, minP, repetitionPenalty, seed };
  const specialTokens = flags.specialTokens ? "interpret" : "text";
  return { ...sampling, prompt, maxTokens, stop, specialTokens, ignoreEos, signal };
}

function closingLine({ ids, tokensPerSecond, selector, mlpDensity, headDensity }: GenerateResult): string {
  const tokens = `${ids.length} ${ids.length === 1 ? "token" : "tokens"}`;
  const densities = `MLP density ${percent(mlpDensity)}, head density ${percent(headDensity)}`;
  return `${tokens}, ${rate(tokensPerSecond)} tokens/s, ${selector}: ${densities}`;
}

/** Several prompts: decoded together, each story shown when it is whole. */
async function runTogether(context: Context, flags: Flags, prompts: readonly string[]): Promise<void> {
  const { output, signal } = context;
  await withEngine(context, flags, async (engine) => {
    const selector = await chooseSelector(engine, flags, flags.seed);
    const batch = new Batch(engine, {
      maxSequences: Math.min(prompts.length, maxTogether),
      selector,
      signal,
    });
    const results = prompts.map((prompt) => ({ prompt, text: "", ids: [] as number[], finishReason: "" }));
    try {
      for (const prompt of prompts) batch.add(requestOf(flags, prompt, signal));
      while (batch.pending > 0)
        for (const { index, id, text, finishReason } of await batch.step()) {
          const result = results[index]!;
          result.ids.push(id);
          result.text += text;
          if (finishReason === null) continue;
          result.finishReason = finishReason;
          output.write(`${output.colors.dim(result.prompt)}${result.text}\n\n`);
        }
      const { tally, decodeSeconds } = batch;
      const tokensPerSecond = decodeSeconds > 0 ? tally.rows / decodeSeconds : 0;
      const [mlpDensity, headDensity] = [tally.density("neurons"), tally.density("heads")];
      output.result({ results, selector: selector.kind, mlpDensity, headDensity, tokensPerSecond }, () => "");
      output.note(
        `${prompts.length} together, ${rate(tokensPerSecond)} tokens/s, ${selector.kind}: MLP density of the union ${percent(mlpDensity)}, head density ${percent(headDensity)}`,
      );
    } finally {
      batch.dispose();
      selector.dispose();
    }
  });
}

async function runGenerate(context: Context, flags: Flags): Promise<void> {
  const { io, output, signal } = context;
  const prompts: string[] = [];
  for (const prompt of flags.prompt) prompts.push(prompt === "-" ? await readStdin(io.stdin) : prompt);
  if (prompts.length > 1) return runTogether(context, flags, prompts);
  const prompt = prompts[0]!;
  await withEngine(context, flags, async (engine) => {
    const selector = await chooseSelector(engine, flags, flags.seed);
    let isStarted = false;
    // The prompt is shown with the first piece of text: an error before leaves stdout empty.
    const show = (text: string) => {
      output.write(isStarted ? text : output.colors.dim(prompt) + text);
      isStarted = true;
    };
    try {
      const request = requestOf(flags, prompt, signal);
      const result = await generateText(engine, { ...request, selector }, show);
      const { tally: _tally, prefillTokensPerSecond: _prefill, ...shown } = result;
      if (!isStarted) show("");
      output.result(shown, () => "\n");
      output.note(closingLine(result));
    } catch (error) {
      if (isStarted) output.write("\n");
      throw error;
    } finally {
      selector.dispose();
    }
  });
}

export const generateCommand: CommandSpec<Flags> = {
  name: "generate",
  summary: "Continue a text",
  details: "Greedy unless a temperature, --top-k, --top-p or --min-p asks for sampling.",
  examples: [
    ['generate --prompt "Once upon a time"', "with the bundled model and its predictors"],
    ['generate --prompt "The dog" --selector dense --max-tokens 50', "everything computed"],
    ['generate --prompt "The dog" --quality 0.02', "fewer bytes, at 2 % more perplexity"],
    ['generate --prompt "Tom and Mia" --temperature 0.8 --top-p 0.95 --seed 7', "sampled, repeatably"],
    ['generate --prompt "The dog" --prompt "The cat"', "both at once, each weight row read once for both"],
    ["generate models/stories-4m --prompt - --json < prompt.txt", "from stdin, as JSON"],
  ],
  options: [
    new Option(
      "--prompt <text>",
      "text to continue; - reads stdin, without its last line break; several are decoded together",
    )
      .argParser(collect)
      .makeOptionMandatory(),
    new Option(
      "--max-tokens <n>",
      "tokens to generate at most (default: 128, or what the context leaves)",
    ).argParser(integer(1)),
    ...selectorOptions,
    new Option(
      "--temperature <t>",
      "0: always the most probable token (default: 1 with a limit below, else 0)",
    ).argParser(decimal(0)),
    new Option("--top-k <n>", "sample from the n most probable tokens").argParser(integer(0)),
    new Option("--top-p <p>", "sample from the fewest tokens whose probabilities sum to p").argParser(
      decimal(0, 1),
    ),
    new Option("--min-p <p>", "sample from tokens at least p times as probable as the best").argParser(
      decimal(0, 1),
    ),
    new Option("--repetition-penalty <x>", "above 1: tokens seen before become less probable").argParser(
      positive,
    ),
    seedOption("sampling and of the random selector; the same seed gives the same text"),
    new Option("--stop <text>", "end before this text; may be given several times").argParser(collect),
    new Option("--special-tokens", "take names like </s> in the prompt as special tokens, not as text"),
    new Option("--ignore-eos", "go on past the end-of-sequence token"),
  ],
  run: runGenerate,
};

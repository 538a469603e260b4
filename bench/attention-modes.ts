/**
 * `recover` against `dense-kv`: bytes, time and memory at several context lengths, and the perplexity, which is the same.
 * `npx tsx bench/attention-modes.ts --help`; prints a Markdown table.
 */
import { join } from "node:path";
import { spread } from "../src/eval/bench.ts";
import {
  bundledModel,
  bytesPerToken,
  generateText,
  load,
  readCorpus,
  type Selector,
  score,
} from "../src/index.ts";
import { readArguments } from "./arguments.ts";

const usage = `npx tsx bench/attention-modes.ts [options]

  --head-density=0.5   share of the heads
  --rounds=9           interleaved rounds
  --model=FOLDER       default: the bundled model`;
const { values } = readArguments(usage, {
  "head-density": { type: "string", default: "0.5" },
  rounds: { type: "string", default: "9" },
  model: { type: "string", default: bundledModel },
});
const headDensity = Number(values["head-density"]);
const rounds = Number(values.rounds);
const folder = values.model;
const decoded = 48;

const engine = await load(folder);
const { model } = engine;
const limits = { maxLength: model.shape.maxPositions };
const corpus = await readCorpus([join(folder, "sample.txt")], engine.tokenizer, limits);
const text = corpus.documents.flatMap((ids) => [...ids.subarray(1)]);

const modes: [string, Selector][] = [
  ["all heads, dense-kv", await engine.selector("dense")],
  ["dense-kv", await engine.selector("predicted", { headDensity })],
  ["recover", await engine.selector("predicted", { headDensity, attention: "recover" })],
  [
    "recover, refresh 16",
    await engine.selector("predicted", { headDensity, attention: "recover", refresh: 16 }),
  ],
];
const perplexities = [];
for (const [, selector] of modes)
  perplexities.push((await score(engine, corpus.documents, selector)).perplexity);

console.log(
  `${model.shape.modelType}, ${engine.kernels.name} ${engine.kernels.instructionSet}, ${engine.kernels.threads} threads; head density ${headDensity}; ${decoded} tokens decoded up to the context length, median and quartiles of ${rounds} interleaved rounds\n`,
);
console.log("| context | mode | tokens/s | weights per token | cache memory | perplexity |");
console.log("| --- | --- | --- | --- | --- | --- |");
for (const context of [64, 256, 512].filter((length) => length <= model.shape.maxPositions)) {
  const prompt = [engine.tokenizer.bosId, ...text].slice(0, context - decoded + 1);
  const rates: number[][] = modes.map(() => []);
  const bytes: number[] = [];
  for (let round = 0; round <= rounds; round++)
    for (const [i, [, selector]] of modes.entries()) {
      const result = await generateText(engine, {
        prompt,
        selector,
        maxTokens: decoded,
        ignoreEos: true,
        temperature: 0,
      });
      bytes[i] = bytesPerToken(model, selector, result.tally).touched;
      if (round > 0) rates[i]!.push(result.tokensPerSecond);
    }
  for (const [i, [name, { attention }]] of modes.entries()) {
    const state = model.createState({ capacity: context, maxRows: 1, attention });
    const memory = state.cacheBytes;
    state.dispose();
    const { median, p25, p75 } = spread(rates[i]!);
    const speed = `${median.toFixed(0)} (${p25.toFixed(0)} – ${p75.toFixed(0)})`;
    const megabytes = (value: number) => `${(value / 1e6).toFixed(2)} MB`;
    console.log(
      `| ${context} | ${name} | ${speed} | ${megabytes(bytes[i]!)} | ${megabytes(memory)} | ${perplexities[i]!.toFixed(3)} |`,
    );
  }
}
engine.dispose();

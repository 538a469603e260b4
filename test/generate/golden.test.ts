/** The bundled model, from text to text, against what an independent float64 implementation generated. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generate, generateText } from "../../src/generate.ts";
import { type Engine, load } from "../../src/load.ts";
import { oracleScorer } from "../../src/sparsity/oracle.ts";
import { uniformPolicy } from "../../src/sparsity/policy.ts";
import { ScoredSelector } from "../../src/sparsity/selector.ts";
import { availableBackends } from "../helpers/backends.ts";
import { golden } from "../helpers/golden.ts";

describe.each(availableBackends)("%s", (backend) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await load(undefined, { backend });
  });
  afterAll(() => engine.dispose());

  it.each(golden.cases)("continues $prompt", async ({ prompt, ids, greedy64, greedy_text }) => {
    const pieces: string[] = [];
    const result = await generateText(engine, { prompt, maxTokens: 64 }, (text) => pieces.push(text));
    expect(result.promptIds).toEqual(ids);
    expect(result.ids).toEqual(greedy64);
    expect(result.text).toBe(greedy_text);
    expect(pieces.join("")).toBe(greedy_text);
    expect(result).toMatchObject({
      finishReason: "length",
      selector: "dense",
      mlpDensity: 1,
      headDensity: 1,
    });
    expect(result.tally.rows).toBe(63);
  });

  it("yields what the result sums up", async () => {
    const { ids: prompt, greedy64 } = golden.cases[0]!;
    const run = generate(engine, { prompt, maxTokens: 12 });
    const ids: number[] = [];
    let text = "";
    let step = await run.next();
    for (; !step.done; step = await run.next()) {
      ids.push(step.value.id);
      text += step.value.text;
    }
    expect(ids).toEqual(greedy64.slice(0, 12));
    expect(step.value.ids).toEqual(ids);
    expect(step.value.text).toBe(text);
    expect(step.value.promptIds).toEqual(prompt);
  });
});

describe("the tokenizer of the bundled model", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await load();
  });
  afterAll(() => engine.dispose());

  it.each(golden.tokenizer)("encodes $text", ({ text, ids }) => {
    const { tokenizer } = engine;
    expect(tokenizer.encode(text, { addBos: false })).toEqual(ids);
    expect(tokenizer.encode(text)).toEqual([tokenizer.bosId, ...ids]);
    expect(tokenizer.decode(ids)).toBe(text);
  });
});

describe.skipIf(!availableBackends.includes("native"))("native", () => {
  it("generates the same text with one thread and with two, and when every unit is selected", async () => {
    const texts: string[] = [];
    for (const threads of [1, 2]) {
      using engine = await load(undefined, { backend: "native", threads });
      const { layers, heads, ffnDim } = engine.model.shape;
      const all = uniformPolicy(layers, { kind: "topK", k: heads }, { kind: "topK", k: ffnDim });
      const trueSet = uniformPolicy(layers, { kind: "dense" }, { kind: "threshold", threshold: 0 });
      const selectors = [all, trueSet].map(
        (policy) => new ScoredSelector("oracle", engine.kernels, oracleScorer, policy),
      );
      for (const selector of [undefined, ...selectors]) {
        const prompt = "Once there was a boat";
        const options = { prompt, selector, temperature: 0.9, seed: 4, maxTokens: 40 };
        texts.push((await generateText(engine, options)).text);
      }
    }
    expect(texts).toHaveLength(6);
    expect(new Set(texts).size).toBe(1);
  });
});

/** The life of a generation: limits, stops, aborts, and what it leaves behind. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { type GenerateOptions, generate, generateText } from "../../src/generate.ts";
import { type Engine, load } from "../../src/load.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import type { Selector } from "../../src/sparsity/selector.ts";
import { ContextOverflowError, UsageError } from "../../src/util/errors.ts";
import { golden } from "../helpers/golden.ts";
import { type MemoryWatch, watchMemory } from "../helpers/watch-memory.ts";

const { prompt, greedy64, greedy_text, ids: promptIds } = golden.cases[0]!;
let engine: Engine;
let memory: MemoryWatch;
beforeAll(async () => {
  engine = await load();
  memory = watchMemory(engine.kernels);
});
afterAll(() => engine.dispose());
beforeEach(() => {
  expect(memory.live.size).toBe(0);
  return () => expect(memory.live.size, "tensors left behind").toBe(0);
});

const run = (options: Partial<GenerateOptions>) => generateText(engine, { prompt, ...options });

/** Calls of the model's forward while `work` runs. */
async function countForwards(work: () => Promise<unknown>): Promise<number> {
  const forward = vi.spyOn(engine.model, "forward");
  try {
    await work();
    return forward.mock.calls.length;
  } finally {
    forward.mockRestore();
  }
}

describe("a seed", () => {
  const sampled = async (seed: number) => (await run({ temperature: 1, seed, maxTokens: 24 })).text;

  it("repeats a text, another seed does not", async () => {
    const first = await sampled(1);
    expect(await sampled(1)).toBe(first);
    expect(await sampled(2)).not.toBe(first);
  });
});

describe("maxTokens", () => {
  it.each([1, 2, 7])("stops after %i", async (maxTokens) => {
    const result = await run({ maxTokens });
    expect(result.ids).toEqual(greedy64.slice(0, maxTokens));
    expect(result.finishReason).toBe("length");
  });

  it.each([0, -1, 1.5, Number.NaN, "7" as never])("refuses %s", async (maxTokens) => {
    const forwards = await countForwards(async () => {
      const failed = run({ maxTokens });
      await expect(failed).rejects.toThrow(UsageError);
      await expect(failed).rejects.toThrow(String(maxTokens));
    });
    expect(forwards).toBe(0);
  });

  it("may fill the context to the last position, and no further", async () => {
    const limit = engine.model.shape.maxPositions;
    const long = Array.from({ length: limit - 2 }, (_, i) => promptIds[i % promptIds.length]!);
    expect((await run({ prompt: long, maxTokens: 3, ignoreEos: true })).ids).toHaveLength(3);
    expect((await run({ prompt: long, ignoreEos: true })).ids).toHaveLength(3);
    expect((await run({ prompt: [...long, 5, 5], ignoreEos: true })).ids).toHaveLength(1);
    const forwards = await countForwards(async () => {
      await expect(run({ prompt: long, maxTokens: 4 })).rejects.toMatchObject({
        name: "ContextOverflowError",
        promptTokens: limit - 2,
        maxTokens: 4,
        limit,
      });
      await expect(run({ prompt: [...long, 5, 5, 5] })).rejects.toThrow(ContextOverflowError);
      await expect(run({ prompt: "a ".repeat(limit) })).rejects.toThrow(ContextOverflowError);
      await expect(run({ prompt: "x".repeat(10_000_000) })).rejects.toThrow(ContextOverflowError);
    });
    expect(forwards).toBe(0);
  });
});

describe("a stop string", () => {
  /** Ends one character into a token and starts in the middle of another. */
  it("ends the text before it, across token borders", async () => {
    const { tokenizer } = engine;
    const tokens = greedy64.map((id) => tokenizer.decode([id]));
    expect(tokens.slice(4, 8).join("")).toBe(" little girl named Lily");
    const stop = "rl nam";
    const pieces: string[] = [];
    const result = await generateText(engine, { prompt, stop: ["nowhere", stop] }, (text) =>
      pieces.push(text),
    );
    expect(result.text).toBe(greedy_text.slice(0, greedy_text.indexOf(stop)));
    expect(pieces.join("")).toBe(result.text);
    expect(result.finishReason).toBe("stop");
    expect(result.ids).toEqual(greedy64.slice(0, result.ids.length));
    expect(tokenizer.decode(result.ids)).toContain(stop);
  });

  it("that only begins holds nothing back at the end", async () => {
    const result = await run({ stop: [`${greedy_text.slice(-4)}!`], maxTokens: 64 });
    expect(result.text).toBe(greedy_text);
    expect(result.finishReason).toBe("length");
  });

  it("must not be empty", async () => {
    await expect(run({ stop: [""] })).rejects.toThrow(UsageError);
  });
});

describe("the end of sequence", () => {
  /** A prompt after which the model is certain to end: the id is forced through the logits. */
  async function withForcedEos(at: number, work: () => Promise<void>) {
    const { kernels, tokenizer } = engine;
    const original = kernels.argmax;
    let calls = 0;
    kernels.argmax = (out, x, rows) => {
      if (calls++ === at) kernels.write(out, Int32Array.of(tokenizer.eosId));
      else original.call(kernels, out, x, rows);
    };
    await work().finally(() => {
      kernels.argmax = original;
    });
  }

  it.each([0, 5])("after %i tokens ends the text and is no part of it", async (at) => {
    await withForcedEos(at, async () => {
      const result = await run({ maxTokens: 20 });
      expect(result.finishReason).toBe("stop");
      expect(result.ids).toEqual(greedy64.slice(0, at));
      expect(result.text).toBe(engine.tokenizer.decode(greedy64.slice(0, at)));
    });
  });

  it("lets go of what a stop string held back", async () => {
    await withForcedEos(6, async () => {
      const text = engine.tokenizer.decode(greedy64.slice(0, 6));
      const result = await run({ stop: [`${text.slice(-3)}…`] });
      expect(result.text).toBe(text);
    });
  });

  it("is passed over with ignoreEos, and leaves no text", async () => {
    await withForcedEos(5, async () => {
      const result = await run({ maxTokens: 9, ignoreEos: true });
      expect(result.ids).toHaveLength(9);
      expect(result.ids[5]).toBe(engine.tokenizer.eosId);
      expect(result.finishReason).toBe("length");
      expect(result.text).not.toContain("</s>");
    });
  });
});

describe("a prompt", () => {
  it("may be ids, which are used as they are", async () => {
    expect((await run({ prompt: promptIds, maxTokens: 8 })).ids).toEqual(greedy64.slice(0, 8));
    const withoutBos = await run({ prompt: promptIds.slice(1), maxTokens: 8 });
    expect(withoutBos.promptIds).toEqual(promptIds.slice(1));
  });

  it.each([-1, 4096, 0.5, Number.NaN])("with the id %s is refused", async (id) => {
    const failed = run({ prompt: [2, id] });
    await expect(failed).rejects.toThrow(UsageError);
    await expect(failed).rejects.toThrow(String(id));
  });

  it("without ids is refused; without text it is the start of a document", async () => {
    await expect(run({ prompt: [] })).rejects.toThrow(UsageError);
    expect((await run({ prompt: "", maxTokens: 2 })).promptIds).toEqual([engine.tokenizer.bosId]);
  });

  it("holds special tokens only when told so", async () => {
    const { eosId, bosId } = engine.tokenizer;
    const interpreted = await run({ prompt: "a</s>", specialTokens: "interpret", maxTokens: 1 });
    expect(interpreted.promptIds.at(-1)).toBe(eosId);
    const plain = await run({ prompt: "a</s>", maxTokens: 1 });
    expect(plain.promptIds.lastIndexOf(bosId)).toBe(0);
  });
});

describe("options of sampling", () => {
  it.each([{ temperature: -1 }, { topP: 2 }, { topK: 0.5 }, { seed: -3 }])(
    "such as %j are refused",
    async (bad) => {
      const forwards = await countForwards(() => expect(run(bad)).rejects.toThrow(UsageError));
      expect(forwards).toBe(0);
    },
  );
});

describe("an abort", () => {
  const reason = new Error("enough");

  it("before the start does nothing at all", async () => {
    const forwards = await countForwards(() =>
      expect(run({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason),
    );
    expect(forwards).toBe(0);
    expect((await run({ maxTokens: 2 })).ids).toEqual(greedy64.slice(0, 2));
  });

  it("in the middle takes effect before the next token", async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    const work = async () => {
      for await (const { id } of generate(engine, { prompt, signal: controller.signal }))
        if (seen.push(id) === 5) controller.abort(reason);
    };
    await expect(work()).rejects.toBe(reason);
    expect(seen).toEqual(greedy64.slice(0, 5));
    expect((await run({ maxTokens: 6 })).ids).toEqual(greedy64.slice(0, 6));
  });

  it("by a timer gets through", async () => {
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(reason), 30);
    const started = performance.now();
    const options = { ignoreEos: true, maxTokens: 500, signal: controller.signal };
    // A selector without an end of its own: decoding is slowed down, so that only the timer can end it.
    const selector: Selector = {
      ...denseSelector,
      neurons(block) {
        if (block.layer === 0) for (const end = performance.now() + 3; performance.now() < end; );
        return null;
      },
    };
    await expect(run({ ...options, selector })).rejects.toBe(reason);
    clearTimeout(timer);
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it("during a long prompt takes effect between its blocks", async () => {
    const controller = new AbortController();
    const long = Array.from({ length: 500 }, (_, i) => promptIds[i % promptIds.length]!);
    const forward = vi.spyOn(engine.model, "forward").mockImplementation(() => controller.abort(reason));
    await expect(run({ prompt: long, signal: controller.signal })).rejects.toBe(reason);
    expect(forward).toHaveBeenCalledTimes(1);
    forward.mockRestore();
  });
});

describe("memory", () => {
  it("is given back when the caller leaves early", async () => {
    for await (const { id } of generate(engine, { prompt })) {
      expect(memory.live.size).toBeGreaterThan(10);
      if (id === greedy64[2]) break;
    }
    expect(memory.live.size).toBe(0);
  });

  it("is given back by return() before the first token", async () => {
    const unused = generate(engine, { prompt });
    await unused.return(undefined as never);
    expect(memory.live.size).toBe(0);
  });

  it("is given back when the selector throws", async () => {
    const broken = new Error("broken");
    const neurons = () => {
      throw broken;
    };
    await expect(run({ selector: { ...denseSelector, neurons } })).rejects.toBe(broken);
    expect(memory.live.size).toBe(0);
  });
});

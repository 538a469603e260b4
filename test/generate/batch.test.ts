/** Requests decoded together give what each gives alone. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Batch, generateBatch } from "../../src/batch.ts";
import { generateText } from "../../src/generate.ts";
import { type Engine, load } from "../../src/load.ts";
import type { RequestOptions } from "../../src/sequence.ts";
import { availableBackends } from "../helpers/backends.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const requests: RequestOptions[] = [
  { prompt: "Once upon a time", maxTokens: 20 },
  { prompt: "The dog", maxTokens: 7, temperature: 0.8, seed: 3 },
  { prompt: "Tom and Mia went to the park. They saw a big", maxTokens: 12, stop: ["tree"] },
  { prompt: "One day,", maxTokens: 15, repetitionPenalty: 1.2 },
  { prompt: "Lily", maxTokens: 1 },
];

describe.each(availableBackends)("%s", { timeout: 60_000 }, (backend) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await load(undefined, { backend });
  });
  afterAll(() => engine.dispose());

  async function collect(maxSequences: number, totalPositions?: number) {
    const texts = requests.map(() => "");
    const ends: (string | null)[] = requests.map(() => null);
    for await (const { index, text, finishReason } of generateBatch(engine, requests, {
      maxSequences,
      ...(totalPositions && { totalPositions }),
    })) {
      texts[index] += text;
      if (finishReason !== null) ends[index] = finishReason;
    }
    return { texts, ends };
  }

  it("gives each request its own text, however many run at a time and whoever joins and leaves", async () => {
    const alone = [];
    for (const request of requests) alone.push(await generateText(engine, request));
    // The reference backend takes its time: one way of running them together has to do.
    const ways: [number, number?][] = backend === "native" ? [[1], [2], [5], [4, 64]] : [[3]];
    for (const [maxSequences, total] of ways) {
      const { texts, ends } = await collect(maxSequences, total);
      expect(texts).toEqual(alone.map(({ text }) => text));
      expect(ends).toEqual(alone.map(({ finishReason }) => finishReason));
    }
  });

  it("unites the neurons of its sequences and leaves each its heads", async () => {
    const densities = [];
    for (const maxSequences of [1, 4]) {
      const selector = await engine.selector("predicted");
      const batch = new Batch(engine, { maxSequences, selector });
      for (const prompt of ["Once upon a time", "The dog", "One day,", "Tom saw"])
        batch.add({ prompt, maxTokens: 10, ignoreEos: true });
      while (batch.pending > 0) await batch.step();
      densities.push(batch.tally.density("neurons"));
      expect(batch.tally.density("active")).toBeLessThanOrEqual(batch.tally.density("neurons"));
      batch.dispose();
      selector.dispose();
    }
    const [one, four] = densities as [number, number];
    expect(four).toBeGreaterThan(one);
    expect(four).toBeLessThan(4 * one);
  });

  it("lets requests be added and cancelled between steps, and gives all memory back", async () => {
    const memory = watchMemory(engine.kernels);
    const batch = new Batch(engine, { maxSequences: 2 });
    const first = batch.add({ prompt: "Once upon a time", maxTokens: 50 });
    await batch.step();
    const second = batch.add({ prompt: "The dog", maxTokens: 3 });
    const third = batch.add({ prompt: "One day,", maxTokens: 4 });
    expect((await batch.step()).map(({ index }) => index)).toEqual([first, second]);
    batch.cancel(first);
    expect((await batch.step()).map(({ index }) => index)).toEqual([second, third]);
    batch.cancel(third);
    expect(batch.pending).toBe(1);
    while (batch.pending > 0) await batch.step();
    batch.dispose();
    expect(memory.live.size).toBe(0);
    memory.end();
  });

  it("refuses what can never run, and stops when aborted", async () => {
    const controller = new AbortController();
    const batch = new Batch(engine, { maxSequences: 2, capacity: 20, signal: controller.signal });
    expect(() => batch.add({ prompt: "Once upon a time", maxTokens: 30 })).toThrow(
      /needs 34 positions.* 20$/,
    );
    expect(() => new Batch(engine, { maxSequences: 0 })).toThrow("max sequences is 0");
    batch.add({ prompt: "The dog", maxTokens: 10 });
    controller.abort(new Error("enough"));
    await expect(batch.step()).rejects.toThrow("enough");
    batch.dispose();
  });
});

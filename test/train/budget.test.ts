/** Preparing to a budget of perplexity, on a model of a few kilobytes. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readCorpus } from "../../src/eval/documents.ts";
import { score } from "../../src/eval/score.ts";
import { type Engine, load, type SelectorOptions } from "../../src/load.ts";
import type { Policy } from "../../src/sparsity/policy.ts";
import { isCalibrated, splitTexts } from "../../src/train/held-out.ts";
import { prepare } from "../../src/train/prepare.ts";
import { budgetStages, type PrepareOptions, type PrepareStage } from "../../src/train/prepare-options.ts";
import { UsageError } from "../../src/util/errors.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { randomText, writeTinyModel } from "../helpers/tiny-model.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const text = join(folder, "text.txt");
const out = join(folder, "bundle");
const budget = 0.02;
const rows = 2000;
let engine: Engine;
let made: Awaited<ReturnType<typeof prepare>>;
const seen: [PrepareStage, number, number][] = [];

const run = (file: string, options: Partial<PrepareOptions> = {}, on: Engine = engine) =>
  prepare(on, {
    texts: [text],
    out: file,
    rank: 4,
    epochs: 1,
    batchSize: 64,
    rows,
    curveRows: 1000,
    maxPerplexityIncrease: budget,
    ...options,
  });

beforeAll(async () => {
  await writeTinyModel(folder);
  writeFileSync(text, randomText(120, 24));
  engine = await load(folder, { backend: fastestBackend });
  made = await run(out, { onProgress: (...step) => seen.push(step) });
}, 60_000);
afterAll(() => engine?.dispose());

const documentsOf = () =>
  readCorpus([text], engine.tokenizer, { maxLength: engine.model.shape.maxPositions });

describe("a bundle made to a budget", () => {
  it("is the same, bit for bit, when made again, with another number of threads", async () => {
    using single = await load(folder, { backend: fastestBackend, threads: 1 });
    await run(join(folder, "again"), {}, single);
    expect(readFileSync(join(folder, "again")).equals(readFileSync(out))).toBe(true);
  });

  it("holds a curve that gains bytes for what it loses", () => {
    const { curve, search } = made;
    expect(curve.length).toBeGreaterThan(1);
    expect(search!.forwardTokens).toBeGreaterThan(0);
    for (const [i, point] of curve.entries()) {
      const { bytesPerToken, mlpBytesPerToken, quality, calibrated, reported } = point;
      expect(bytesPerToken).toBeLessThan(search!.dense.bytesPerToken);
      expect(mlpBytesPerToken).toBeLessThanOrEqual(search!.dense.mlpBytesPerToken);
      expect(quality).toBeGreaterThanOrEqual(
        Math.max(calibrated.perplexityIncrease, reported.perplexityIncrease, calibrated.kl, reported.kl),
      );
      if (i === 0) continue;
      expect(bytesPerToken).toBeLessThan(curve[i - 1]!.bytesPerToken);
      expect(quality).toBeGreaterThan(curve[i - 1]!.quality);
    }
  });

  it("runs the cheapest point within the budget, at the perplexity that it states", async () => {
    const fit = made.curve.filter(({ quality }) => quality <= budget);
    const chosen = fit.at(-1)!;
    expect(made.policy).toEqual(chosen.policy);
    const { halves } = splitTexts(await documentsOf(), rows, 500);
    using fresh = await load(folder, { backend: fastestBackend, bundle: out });
    for (const [half, options] of [
      ["reported", {}],
      ["calibrated", { quality: budget }],
    ] as const) {
      const selector = await fresh.selector("predicted", options);
      const measured = await score(fresh, halves[half], selector);
      selector.dispose();
      expect(measured.perplexity / measured.densePerplexity - 1).toBe(chosen[half].perplexityIncrease);
      expect(measured.kl).toBe(chosen[half].kl);
      if (half === "calibrated") expect(measured.bytesPerToken.touched).toBe(chosen.bytesPerToken);
    }
    expect(made.search!.tokens.reported).toBe(halves.reported.reduce((sum, ids) => sum + ids.length, 0));
  });

  it("states what one density for all layers would do, which the curve beats or meets", () => {
    const { uniform } = made.search!;
    expect(uniform!.calibrated.perplexityIncrease).toBeLessThanOrEqual(budget);
    expect(uniform!.density).toBeLessThan(1);
    expect(uniform!.bytesPerToken).toBeLessThan(made.search!.dense.bytesPerToken);
  });

  it("has keys and values recovered where heads are skipped, because that reads less, and nowhere else", async () => {
    const file = join(folder, "loose");
    const { curve, policy } = await run(file, { maxPerplexityIncrease: 0.15 });
    const skips = (one: Policy) => one.heads.some(({ kind }) => kind !== "dense");
    expect(skips(policy)).toBe(true);
    expect(curve.some((point) => !skips(point.policy))).toBe(true);
    for (const point of curve)
      expect(point.policy.attention).toBe(skips(point.policy) ? "recover" : "dense-kv");
    using fresh = await load(folder, { backend: fastestBackend, bundle: file });
    const { halves } = splitTexts(await documentsOf(), rows, 500);
    const bytesOf = async (options: SelectorOptions) => {
      const selector = await fresh.selector("predicted", options);
      const { bytesPerToken } = await score(fresh, halves.calibrated, selector);
      selector.dispose();
      return bytesPerToken.touched;
    };
    const chosen = curve.find((point) => JSON.stringify(point.policy) === JSON.stringify(policy))!;
    expect(await bytesOf({})).toBe(chosen.bytesPerToken);
    expect(await bytesOf({ attention: "dense-kv" })).toBeGreaterThan(chosen.bytesPerToken);
  });

  it("goes through its stages in order, never back, to their end", () => {
    expect([...new Set(seen.map(([stage]) => stage))]).toEqual([...budgetStages]);
    for (const stage of budgetStages) {
      const steps = seen.filter(([name]) => name === stage);
      for (const [i, [, done, total]] of steps.entries()) {
        expect(done).toBeLessThanOrEqual(total);
        if (i > 0) expect(done, stage).toBeGreaterThanOrEqual(steps[i - 1]![1]);
      }
      expect(steps.at(-1)![1]).toBe(steps.at(-1)![2]);
    }
  });

  it("records the options that had a say", () => {
    const { options } = made.provenance;
    expect(options).toMatchObject({ maxPerplexityIncrease: budget, curveRows: 1000 });
    expect(options).not.toHaveProperty("headTolerance");
  });

  it.each(["layers", "curve", "uniform"] as const)("aborted in %s leaves nothing", async (at) => {
    const place = join(folder, `aborted-${at}`);
    mkdirSync(place);
    const reason = new Error("enough");
    const controller = new AbortController();
    const memory = watchMemory(engine.kernels);
    const failed = run(join(place, "bundle"), {
      signal: controller.signal,
      onProgress: (stage) => stage === at && controller.abort(reason),
    });
    await expect(failed).rejects.toBe(reason);
    expect(readdirSync(place)).toEqual([]);
    expect(memory.live.size, "tensors left behind").toBe(0);
    memory.end();
  });
});

describe("documents", () => {
  const documents = Array.from({ length: 60 }, (_, i) => new Int32Array(10).fill(i));
  const names = (some: readonly Int32Array[]) => some.map((ids) => ids[0]);

  it("train, calibrate or report, and never two of these", () => {
    const { captured, heldOut, halves } = splitTexts({ sources: [], documents }, 500, 1000);
    expect(names(captured.documents)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(names(heldOut)).toEqual([19, 39]);
    expect(names(halves.calibrated)).toEqual([19, 50, 52, 54, 56, 58]);
    expect(names(halves.reported)).toEqual([39, 51, 53, 55, 57, 59]);
    // What thresholds come from, in the captured rows, is what calibrates.
    expect(names(heldOut.filter((ids) => isCalibrated(ids[0]!)))).toEqual([19]);
  });

  it("are taken until a half is full", () => {
    const { halves } = splitTexts({ sources: [], documents }, 500, 25);
    expect(names(halves.calibrated)).toEqual([19, 50, 52]);
    expect(names(halves.reported)).toEqual([39, 51, 53]);
  });

  it("are all captured where the text ends early", () => {
    const { captured, halves } = splitTexts({ sources: [], documents }, 9999, 100);
    expect(captured.documents).toHaveLength(60);
    expect([names(halves.calibrated), names(halves.reported)]).toEqual([[19, 59], [39]]);
  });
});

describe("a budget is refused", () => {
  const never = join(folder, "never");

  it.each([
    ["recall", 0.9],
    ["headTolerance", 0.01],
  ])("beside %s, which says the same", async (option, value) => {
    const failed = run(never, { [option]: value });
    await expect(failed).rejects.toThrow(UsageError);
    await expect(failed).rejects.toThrow(new RegExp(`maxPerplexityIncrease.*${option} is ${value}`));
  });

  it.each([0, -0.01, 1.1])("of %d", async (maxPerplexityIncrease) => {
    const failed = run(never, { maxPerplexityIncrease });
    await expect(failed).rejects.toThrow(`maxPerplexityIncrease is ${maxPerplexityIncrease}`);
  });

  it("where the held-out documents make no two halves", async () => {
    const short = join(folder, "short.txt");
    writeFileSync(short, randomText(25, 6));
    await expect(run(never, { texts: [short] })).rejects.toThrow(/25 documents.*Give more text/);
  });

  it("when nothing can be skipped within it", async () => {
    const failed = run(never, { maxPerplexityIncrease: 1e-12, epochs: 0, rank: 1 });
    await expect(failed).rejects.toThrow(/maxPerplexityIncrease is 1e-12/);
    expect(existsSync(never)).toBe(false);
  });
});

/** From text to a bundle that runs, on a model of a few kilobytes. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readCorpus } from "../../src/eval/documents.ts";
import { score } from "../../src/eval/score.ts";
import { generateText } from "../../src/generate.ts";
import { type Engine, load } from "../../src/load.ts";
import { sources } from "../../src/sparsity/selector.ts";
import { layerFile } from "../../src/train/capture.ts";
import { prepare } from "../../src/train/prepare.ts";
import { type PrepareOptions, type PrepareStage, prepareStages } from "../../src/train/prepare-options.ts";
import { UsageError } from "../../src/util/errors.ts";
import { availableBackends, fastestBackend } from "../helpers/backends.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { randomText, tinyVariant, writeTinyModel } from "../helpers/tiny-model.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const text = join(folder, "text.txt");
/** Captures made on the way must leave this folder as empty as they found it. */
const scratch = join(folder, "scratch");
const { TMPDIR: usual } = process.env;
let engine: Engine;
beforeAll(async () => {
  mkdirSync(scratch);
  process.env["TMPDIR"] = scratch;
  await writeTinyModel(folder);
  writeFileSync(text, randomText(45, 24));
  engine = await load(folder, { backend: fastestBackend });
});
afterAll(() => {
  engine.dispose();
  if (usual === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = usual;
});

const outFolder = (name: string): string => {
  const path = join(folder, name);
  mkdirSync(path);
  return path;
};
const small = { texts: [text], rank: 8, epochs: 2, batchSize: 64, headTolerance: 0.01 };
const run = (out: string, options: Partial<PrepareOptions> = {}, on: Engine = engine) =>
  prepare(on, { ...small, out, ...options });

describe("a bundle", () => {
  it("is the same, bit for bit, when made again, and with another number of threads", async () => {
    const at = outFolder("repeated");
    const names = ["a", "b", "c"].map((name) => join(at, name));
    await run(names[0]!);
    await run(names[1]!);
    using single = await load(folder, { backend: fastestBackend, threads: 1 });
    await run(names[2]!, {}, single);
    const [a, b, c] = names.map((name) => readFileSync(name));
    expect(b!.equals(a!)).toBe(true);
    expect(c!.equals(a!)).toBe(true);
    const other = join(at, "d");
    await run(other, { seed: 1 });
    expect(readFileSync(other).equals(a!)).toBe(false);
    expect(readdirSync(at).sort()).toEqual(["a", "b", "c", "d"]);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it.each(sources)("from %s loads and runs", async (source) => {
    const out = join(outFolder(source), "bundle");
    const memory = watchMemory(engine.kernels);
    const made = await run(out, { source });
    expect(memory.live.size, "tensors left behind").toBe(0);
    memory.end();

    using fresh = await load(folder, { backend: fastestBackend, bundle: out });
    const { metadata, predictors } = await fresh.bundle();
    expect(metadata).toEqual(made);
    expect(metadata.sources).toEqual({
      neurons: source,
      heads: source === "mlp-input" ? "attention-input" : source,
    });
    const none = source === "previous-block" ? 1 : 0;
    for (const unit of ["heads", "neurons"] as const)
      expect(predictors[unit].filter((predictor) => predictor === null)).toHaveLength(none);

    const { layers, ffnDim } = fresh.model.shape;
    for (const options of [
      {},
      { mlpDensity: 0.5 },
      { headDensity: 0.4 },
      { mlpDensity: 0.3, headDensity: 0.4 },
    ]) {
      const selector = await fresh.selector("predicted", options);
      const result = await generateText(fresh, { prompt: "ab aba", selector, maxTokens: 8, ignoreEos: true });
      expect(result.ids).toHaveLength(8);
      expect(result.headDensity).toBeLessThanOrEqual(1);
      if (options.mlpDensity === 0.3) {
        const chosen = Math.round(0.3 * ffnDim) * (layers - none) + ffnDim * none;
        expect(result.mlpDensity).toBeCloseTo(chosen / (layers * ffnDim), 12);
      }
      selector.dispose();
    }
  });

  it("states what it was made from and what it reached", async () => {
    const out = join(outFolder("stated"), "bundle");
    const metadata = await run(out, { recall: 0.9 });
    const corpus = await readCorpus([text], engine.tokenizer, {
      maxLength: tinyVariant.max_position_embeddings,
    });
    const rows = corpus.documents.reduce((sum, ids) => sum + ids.length, 0);
    const heldOut = corpus.documents.filter((_, number) => number % 20 === 19);
    expect(metadata.model).toEqual(await engine.identity());
    expect(metadata.provenance).toMatchObject({
      texts: corpus.sources,
      documents: corpus.documents.length,
      rows,
      heldOutRows: heldOut.reduce((sum, ids) => sum + ids.length, 0),
      options: { rank: 8, epochs: 2, recall: 0.9, source: "mlp-input", seed: 0 },
    });
    expect(JSON.stringify(metadata), "paths of the machine").not.toContain(folder);
    for (const { rank, density, recall, precision } of metadata.calibration.neurons) {
      expect([8, 4, 2, 1]).toContain(rank);
      expect(recall).toBeGreaterThanOrEqual(0.9);
      expect(density).toBeLessThan(1);
      expect(precision).toBeGreaterThan(0);
    }
    // The perplexity is that of the held-out documents, under the bundle as a reader will run it.
    using fresh = await load(folder, { backend: fastestBackend, bundle: out });
    const selector = await fresh.selector("predicted");
    const measured = await score(fresh, heldOut, selector);
    expect(metadata.calibration.perplexity).toEqual({
      dense: measured.densePerplexity,
      predicted: measured.perplexity,
    });
    // On the very rows that it was calibrated on, the first layer reads what the dense run read.
    expect(measured.mlp.recall).toBeGreaterThan(0.85);
  });

  it.runIf(availableBackends.length > 1)("can be made on the reference backend", async () => {
    using slow = await load(folder, { backend: "reference" });
    const short = join(folder, "short.txt");
    writeFileSync(short, randomText(20, 6));
    const out = join(outFolder("reference"), "bundle");
    const metadata = await run(out, { texts: [short], rank: 4, epochs: 1, batchSize: 16 }, slow);
    expect(metadata.provenance.kernels).toBe("reference javascript");
    using fast = await load(folder, { bundle: out });
    expect((await fast.selector("predicted")).kind).toBe("predicted");
  });

  it("can be made after it was missed, and is then found", async () => {
    const bundle = join(outFolder("late"), "bundle");
    using late = await load(folder, { backend: fastestBackend, bundle });
    await expect(late.selector("predicted")).rejects.toThrow(bundle);
    await run(bundle, {}, late);
    expect((await late.selector("predicted")).kind).toBe("predicted");
  });

  it("leaves its rows behind when asked to", async () => {
    const captureFolder = outFolder("rows");
    await run(join(outFolder("kept"), "bundle"), { captureFolder });
    const files = [0, 1, 2].map((layer) => layerFile(captureFolder, layer));
    expect(files.every(existsSync)).toBe(true);
    expect(readdirSync(captureFolder)).toHaveLength(3);
  });
});

describe("progress", () => {
  it("goes through all stages in order, never back, to their end", async () => {
    const seen: [PrepareStage, number, number][] = [];
    await run(join(outFolder("progress"), "bundle"), {
      onProgress: (...step) => seen.push(step),
    });
    expect([...new Set(seen.map(([stage]) => stage))]).toEqual([...prepareStages]);
    for (const stage of prepareStages) {
      const steps = seen.filter(([name]) => name === stage);
      for (const [i, [, done, total]] of steps.entries()) {
        expect(done).toBeLessThanOrEqual(total);
        if (i > 0) expect(done).toBeGreaterThanOrEqual(steps[i - 1]![1]);
      }
      expect(steps.at(-1)![1]).toBe(steps.at(-1)![2]);
    }
  });
});

describe("an abort", () => {
  const reason = new Error("enough");
  const moments: [string, PrepareStage, (done: number, total: number) => boolean][] = [
    ["at the start of the capture", "capture", () => true],
    ["at the end of the capture", "capture", (done, total) => done === total],
    ["in the first layer's training", "train", (done) => done > 1],
    ["in the last layer's training", "train", (done, total) => done > total - 0.5],
    ["after the first layer's heads", "heads", () => true],
    ["after the last layer's heads", "heads", (done, total) => done === total],
    ["in the check", "check", () => true],
    ["at the very end", "check", (done, total) => done === total],
  ];

  it.each(moments)("%s leaves nothing behind", async (name, at, when) => {
    const out = join(outFolder(name), "bundle");
    writeFileSync(out, "what was there before");
    const controller = new AbortController();
    const memory = watchMemory(engine.kernels);
    const failed = run(out, {
      signal: controller.signal,
      onProgress: (stage, done, total) => {
        if (stage === at && when(done, total)) controller.abort(reason);
      },
    });
    await expect(failed).rejects.toBe(reason);
    expect(controller.signal.aborted).toBe(true);
    expect(readFileSync(out, "utf8")).toBe("what was there before");
    expect(readdirSync(join(folder, name))).toEqual(["bundle"]);
    expect(readdirSync(scratch)).toEqual([]);
    expect(memory.live.size, "tensors left behind").toBe(0);
    memory.end();
  });
});

describe("texts and options that will not do", () => {
  const out = join(folder, "never");

  it.each([
    ["is missing", null],
    ["is not UTF-8", Uint8Array.of(0x61, 0xff, 0xfe, 0x62)],
    ["is empty", ""],
    ["holds only separators", " <|endoftext|>\n<|endoftext|> "],
    ["holds too few documents", randomText(19, 10)],
  ])("a text that %s", async (name, content) => {
    const file = join(folder, `${name}.txt`);
    if (content !== null) writeFileSync(file, content);
    const failed = run(out, { texts: [file] });
    await expect(failed).rejects.toThrow(UsageError);
    await expect(failed).rejects.toThrow(name === "holds too few documents" ? "19 documents" : file);
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it.each([
    ["texts", []],
    ["recall", 0],
    ["recall", 1.01],
    ["rank", 0],
    ["rank", 2.5],
    ["epochs", -1],
    ["rows", 100],
    ["batchSize", 1],
    ["learningRate", 0],
    ["headTolerance", -1],
    ["seed", -1],
    ["source", "residual"],
    ["out", ""],
  ])("%s = %j", async (option, value) => {
    const failed = prepare(engine, { ...small, out, [option]: value } as PrepareOptions);
    await expect(failed).rejects.toThrow(UsageError);
    await expect(failed).rejects.toThrow(`${option} is ${JSON.stringify(value)}`);
  });

  it("a folder to write to that is not there", async () => {
    await expect(run(join(folder, "no", "such", "folder"))).rejects.toThrow(/cannot be written/);
    expect(readdirSync(scratch)).toEqual([]);
  });
});

/** The whole study on a model of a few kilobytes: measured, stopped, resumed, written. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Interrupted } from "../../src/cli/io.ts";
import { readCorpus } from "../../src/eval/documents.ts";
import { score } from "../../src/eval/score.ts";
import { type Engine, load } from "../../src/load.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { observe } from "../../src/study/observe.ts";
import { ChartsUnavailableError, openRenderer } from "../../src/study/render.ts";
import { curveKinds, curveUnits, type Numbers, type Report, reportSchema } from "../../src/study/schema.ts";
import { sectionsOf } from "../../src/study/sections/index.ts";
import { studySettings } from "../../src/study/settings.ts";
import { type StudyOptions, study } from "../../src/study/study.ts";
import { writeReport } from "../../src/study/write-report.ts";
import { prepare } from "../../src/train/prepare.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { randomText, writeTinyModel } from "../helpers/tiny-model.ts";
import { nestingFault } from "./well-formed.ts";

const root = temporaryFolder();
const model = join(root, "model");
const bare = join(root, "bare");
const text = join(root, "text.txt");
const machine = {
  cpu: "c",
  cores: 1,
  memoryBytes: 1,
  node: "1",
  backend: "x",
  instructionSet: "y",
  threads: 1,
};
const base = { texts: [text], machine, command: "dejavu study <a> & 'b'", quick: true, documents: 2 };

let engine: Engine;
beforeAll(async () => {
  mkdirSync(model);
  mkdirSync(bare);
  await writeTinyModel(model);
  await writeTinyModel(bare);
  writeFileSync(text, randomText(70, 12));
  engine = await load(model, { backend: fastestBackend });
  await prepare(engine, {
    texts: [text],
    out: engine.bundleFile,
    rank: 8,
    epochs: 1,
    batchSize: 64,
    recall: 0.9,
  });
});
afterAll(() => engine.dispose());

/** The engine, telling which selectors it was asked for. */
function watched(of: Engine): { engine: Engine; asked: string[] } {
  const asked: string[] = [];
  const selector: Engine["selector"] = (kind, options = {}) => {
    asked.push(`${kind} ${options.mlpDensity ?? "-"} ${options.headDensity ?? "-"}`);
    return of.selector(kind, options);
  };
  return { engine: { ...of, selector }, asked };
}

const measure = (out: string, more: Partial<StudyOptions> = {}, on: Engine = engine) =>
  study(on, { ...base, out: join(root, out), ...more });

describe("a study with a bundle", () => {
  let numbers: Numbers;
  let report: Report;
  let files: readonly string[];
  const page = () => readFileSync(join(root, "full", "report.html"), "utf8");
  beforeAll(async () => {
    numbers = await measure("full");
    ({ report, files } = await writeReport(numbers, join(root, "full"), await openRenderer(), true));
  });

  it("writes a report.json of the stated shape", () => {
    const written = JSON.parse(readFileSync(join(root, "full", "report.json"), "utf8"));
    expect(reportSchema.parse(written)).toEqual(written);
    expect(written).toEqual(JSON.parse(JSON.stringify(report)));
    expect(readdirSync(join(root, "full")).filter((name) => name.endsWith(".partial"))).toEqual([]);
  });

  it("has every curve, at five densities or all that there are", () => {
    const settings = studySettings(base, engine.model.shape);
    expect(settings.mlpDensities.length).toBeGreaterThanOrEqual(5);
    expect(studySettings({}, { heads: 12 }).headCounts).toHaveLength(5);
    const sizes = { mlp: settings.mlpDensities, heads: settings.headCounts, both: settings.headCounts };
    for (const unit of curveUnits)
      for (const selector of curveKinds) {
        const curve = report.quality.curves.find((c) => c.unit === unit && c.selector === selector);
        expect(curve?.points, `${unit} ${selector}`).toHaveLength(sizes[unit].length);
      }
  });

  it("has figures that agree with one another", () => {
    const { observation, predictors, bytes, quality, speed } = report;
    expect(observation.sparsity).toHaveLength(3);
    for (const { mean, p5, p25, median, p75, p95, headShares } of observation.sparsity) {
      expect([p5, p25, median, p75, p95]).toEqual([p5, p25, median, p75, p95].toSorted((a, b) => a - b));
      expect(mean).toBeGreaterThan(0);
      expect(headShares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5);
    }
    expect(observation.union.map(({ batch }) => batch)).toEqual([1, 2, 4, 8, 16, 32, 64]);
    for (const { true: own } of observation.union) expect(own).toBeGreaterThan(0);
    const sum = (parts: Record<string, number>) => Object.values(parts).reduce((a, b) => a + b, 0);
    expect(sum(bytes.dense)).toBeCloseTo(predictors!.bytes.dense, 3);
    expect(sum(bytes.touched!)).toBeCloseTo(predictors!.bytes.touched, 3);
    const layerRecall = predictors!.layers.map(({ mlp }) => mlp.recall);
    expect(predictors!.mlp.recall).toBeGreaterThanOrEqual(Math.min(...layerRecall));
    expect(predictors!.mlp.recall).toBeLessThanOrEqual(Math.max(...layerRecall));
    expect(quality.densePerplexity).toBe(predictors!.densePerplexity);
    expect(speed.sparse!.phases.predictor).toBeGreaterThan(0);
  });

  it("observes the sets that scoring counts", async () => {
    const { documents } = await readCorpus([text], engine.tokenizer, { maxDocuments: 64, maxLength: 64 });
    const { activeNeuronShare } = await score(engine, documents, denseSelector);
    for (const { layer, mean } of report.observation.sparsity)
      expect(mean).toBeCloseTo(activeNeuronShare[layer]!, 9);
  });

  it("reads the sets that a predictor chose: the oracle's are the true ones, in every layer and batch", async () => {
    const { documents } = await readCorpus([text], engine.tokenizer, { maxDocuments: 8, maxLength: 64 });
    const oracle = await engine.selector("oracle");
    const settings = studySettings(base, engine.model.shape);
    const { union } = await observe(engine, documents, { settings, predicted: oracle, onProgress: () => {} });
    expect(union.map(({ batch }) => batch)).toEqual([1, 2, 4, 8]);
    for (const batch of union)
      for (const { true: own, predicted } of [batch, ...batch.layers]) expect(predicted).toBe(own);
    oracle.dispose();
  });

  it("draws all charts, each with its finding, its values and its own file", () => {
    const charts = sectionsOf(numbers).flatMap((section) => section.charts);
    const wanted = ["sparsity", "head-norms", "quality-mlp", "quality-heads", "quality-both"];
    wanted.push("predictors-mlp", "cosine", "overlap", "union", "latency", "bytes");
    expect(charts.map(({ id }) => id)).toEqual(expect.arrayContaining(wanted));
    const figures = Array.from(page().matchAll(/<figure .*?<\/figure>/gs), ([figure]) => figure);
    expect(figures).toHaveLength(charts.length);
    for (const [c, { id, title, table }] of charts.entries()) {
      expect(figures[c]).toContain(`id="${id}"`);
      expect(title).toMatch(/\d/);
      expect(figures[c]).toMatch(/<figcaption>[^<]+<\/figcaption>\s*<svg[^>]* viewBox=/);
      expect(figures[c]!.match(/<tr>/g)).toHaveLength(table.rows.length + 1);
      for (const row of table.rows) expect(row).toHaveLength(table.columns.length);
      expect(files).toContain(join(root, "full", `${id}.svg`));
      expect(nestingFault(readFileSync(join(root, "full", `${id}.svg`), "utf8"))).toBeNull();
    }
    expect(page()).not.toMatch(/NaN|undefined|Infinity|\[object/);
  });

  it("is a well-formed page that fetches nothing and runs nothing", () => {
    expect(nestingFault(page())).toBeNull();
    const withoutNames = page().replaceAll(/ xmlns(:\w+)?="[^"]*"/g, "");
    expect(withoutNames).not.toMatch(
      /https?:|\/\/\w|url\((?!#)|@import|<script|<link|<img|<iframe|\bon\w+="/i,
    );
    for (const [, target] of withoutNames.matchAll(/(?:href|src)="([^"]*)"/g)) expect(target).toMatch(/^#/);
    expect(page()).toContain("dejavu study &lt;a&gt; &amp; &#39;b&#39;");
  });

  it("does nothing a second time", async () => {
    const { engine: spy, asked } = watched(engine);
    const again = await measure("full", {}, spy);
    expect(asked).toEqual([]);
    expect({ ...again, finished: "" }).toEqual({ ...numbers, finished: "" });
  });
});

describe("a study that is stopped", () => {
  it("keeps finished parts, leaves no half file, and does not compute them again", async () => {
    const controller = new AbortController();
    const first = watched(engine);
    const stop = (stage: string) => {
      if (stage === "quality" && first.asked.length > 8) controller.abort(new Interrupted(130));
    };
    const run = measure("stopped", { onProgress: stop, signal: controller.signal }, first.engine);
    await expect(run).rejects.toThrow(Interrupted);
    expect(readdirSync(join(root, "stopped"))).toEqual(["study.json"]);
    const kept = Object.keys(JSON.parse(readFileSync(join(root, "stopped", "study.json"), "utf8")).parts);
    expect(kept).toEqual(expect.arrayContaining(["observation", "predictors", "speed"]));
    expect(kept.length).toBeGreaterThan(5);

    const second = watched(engine);
    const notes: string[] = [];
    const numbers = await measure("stopped", { onNote: (s) => notes.push(s) }, second.engine);
    expect(notes).toEqual([expect.stringContaining(`${kept.length} finished parts`)]);
    const finished = first.asked.slice(0, kept.length);
    for (const selector of finished) expect(second.asked).not.toContain(selector);
    expect(second.asked.length + kept.length).toBe(new Set([...first.asked, ...second.asked]).size + 2);
    const whole = await measure("full");
    expect(numbers.quality).toEqual(whole.quality);
    expect(numbers.observation).toEqual(whole.observation);
  });

  it("starts anew for another seed, and says why", async () => {
    const notes: string[] = [];
    const signal = AbortSignal.abort(new Interrupted(130));
    const run = measure("stopped", { seed: 5, signal, onNote: (s) => notes.push(s) });
    await expect(run).rejects.toThrow(Interrupted);
    expect(notes).toEqual([expect.stringMatching(/another settings; starting anew/)]);
  });
});

describe("a study without a bundle", () => {
  it("leaves out what needs one, and says so", async () => {
    using plain = await load(bare, { backend: fastestBackend });
    const numbers = await measure("bare", { quick: true }, plain);
    expect(numbers).toMatchObject({ bundle: null, predictors: null, speed: { sparse: null, speedup: null } });
    expect(new Set(numbers.quality.curves.map((c) => c.selector))).toEqual(new Set(["oracle", "random"]));
    const { report } = await writeReport(numbers, join(root, "bare"), await openRenderer(), false);
    for (const part of ["quality", "predictors", "speed"])
      expect(report.findings[part]!.join(" "), part).toMatch(/no bundle/);
    const page = readFileSync(join(root, "bare", "report.html"), "utf8");
    expect(nestingFault(page)).toBeNull();
    expect(page).not.toMatch(/NaN|undefined|Infinity|\bnull\b/);
    expect(existsSync(join(root, "bare", "bytes.svg"))).toBe(false);
  });
});

it.each(["vega", "vega-lite"])("without %s the error names it and the remedy", async (missing) => {
  const load = (name: string) =>
    name === missing ? Promise.reject(new Error(`Cannot find package '${name}'`)) : import(name);
  const error = await openRenderer(load).then(null, (reason: unknown) => reason);
  expect(error).toBeInstanceOf(ChartsUnavailableError);
  expect((error as Error).message).toMatch(
    new RegExp(`the package ${missing}, .*npm install .*vega@6\\.4\\.0 vega-lite@6\\.4\\.3`),
  );
});

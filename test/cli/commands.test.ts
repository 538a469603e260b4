import { existsSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { dejavu, makeWorkplace, type Outcome, type Setting, type Workplace } from "./tools.ts";

let place: Workplace;
let prepared: Outcome;

const on = (command: string, argv: readonly string[], setting?: Setting) =>
  dejavu([command, place.model, "--backend", "reference", ...argv], setting);

beforeAll(async () => {
  place = await makeWorkplace();
  const argv = ["--text", place.text, "--rows", "2000", "--epochs", "1", "--rank", "8", "--json"];
  prepared = await on("prepare", argv);
}, 60_000);
afterAll(() => place.remove());

describe("prepare", () => {
  it("writes the bundle and prints its metadata", () => {
    expect(prepared.code, prepared.stderr).toBe(0);
    const document = prepared.json();
    const file = join(place.model, "dejavu-bundle.safetensors");
    expect(document).toMatchObject({ version: 4, file, provenance: { rows: expect.any(Number) } });
    expect(document.provenance.options).toMatchObject({ rank: 8, epochs: 1, source: "mlp-input" });
    expect(existsSync(file)).toBe(true);
  });

  it("says on stderr where it is, a line at the start and at the end of each stage", () => {
    for (const stage of [
      "capturing activations",
      "training predictors",
      "calibrating heads",
      "checking perplexity",
    ])
      expect(prepared.stderr).toMatch(new RegExp(`^${stage} …\n(.*\n)*?${stage}: done in [\\d.]+ s$`, "m"));
  });

  it("prints a table by layer", async () => {
    const out = join(place.root, "other.safetensors");
    const argv = [
      "--text",
      place.text,
      "--rows",
      "2000",
      "--epochs",
      "0",
      "--source",
      "previous-block",
      "--out",
      out,
    ];
    const { code, stdout, stderr } = await on("prepare", [...argv, "--quiet"]);
    expect(code, stderr).toBe(0);
    expect(stderr).toBe("");
    const lines = stdout.split("\n").map((line) => line.trim());
    expect(lines[0]).toMatch(/^layer +source +rank +density +recall +precision +heads$/);
    expect(lines[1]).toMatch(/^0 +dense +100\.0 % +100\.0 % +100\.0 % +\S/);
    expect(lines[2]).toMatch(/^1 +previous-block +\d+ /);
    expect(stdout).toMatch(/held-out perplexity: [\d.,]+ dense, [\d.,]+ predicted/);
    expect(stdout).toContain(`written: ${out}`);
    // Layer 0, which has no previous block, stays dense whatever is asked of the others.
    const half = [
      "--bundle",
      out,
      "--prompt",
      "ab",
      "--max-tokens",
      "2",
      "--ignore-eos",
      "--mlp-density",
      "0.5",
    ];
    expect((await on("generate", [...half, "--json"])).json()).toMatchObject({ mlpDensity: 0.75 });
  });
});

describe("generate", () => {
  const short = ["--prompt", "ab ab", "--max-tokens", "4", "--ignore-eos"];

  it("prints prompt and text on stdout, one line about the speed on stderr", async () => {
    const { code, stdout, stderr } = await on("generate", short);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ab ab[\s\S]*\n$/);
    expect(stderr).toMatch(
      /^4 tokens, [\d.,]+ tokens\/s, predicted: MLP density [\d.]+ %, head density [\d.]+ %\n$/,
    );
    expect((await on("generate", [...short, "--quiet"])).stderr).toBe("");
  });

  it("prints one document with --json", async () => {
    const document = (await on("generate", [...short, "--json", "--selector", "dense"])).json();
    expect(document).toMatchObject({
      selector: "dense",
      mlpDensity: 1,
      headDensity: 1,
      finishReason: "length",
    });
    expect(document.ids).toHaveLength(4);
    const names = [
      "text",
      "ids",
      "promptIds",
      "finishReason",
      "selector",
      "mlpDensity",
      "headDensity",
      "tokensPerSecond",
    ];
    expect(Object.keys(document).sort()).toEqual(names.sort());
  });

  it("reads the prompt from stdin, without the last line break", async () => {
    const argv = ["--max-tokens", "1", "--json", "--quiet"];
    const piped = await on("generate", ["--prompt", "-", ...argv], { stdin: "ab ab\n" });
    const given = await on("generate", ["--prompt", "ab ab", ...argv]);
    expect(piped.json().promptIds).toEqual(given.json().promptIds);
  });

  it("takes the sampling options, and repeats itself with the same seed", async () => {
    const argv = [...short, "--temperature", "1.5", "--top-k", "40", "--top-p", "0.9", "--min-p", "0.01"];
    const seeded = [...argv, "--repetition-penalty", "1.1", "--seed", "7", "--json"];
    const [one, two] = [await on("generate", seeded), await on("generate", seeded)];
    expect(one.code, one.stderr).toBe(0);
    expect(one.json().ids).toEqual(two.json().ids);
  });

  it("stops at any of several texts, and takes special tokens as asked", async () => {
    const free = (await on("generate", [...short, "--json"])).json();
    const stop = free.text.at(-1);
    const argv = [...short, "--stop", "never in there", "--stop", stop, "--json"];
    const stopped = (await on("generate", argv)).json();
    expect(stopped.finishReason).toBe("stop");
    expect(stopped.text).toBe(free.text.slice(0, free.text.indexOf(stop)));
    const special = ["--prompt", "ab</s>", "--max-tokens", "1", "--json"];
    const asText = (await on("generate", special)).json().promptIds;
    const asToken = (await on("generate", [...special, "--special-tokens"])).json().promptIds;
    expect(asToken.length).toBeLessThan(asText.length);
  });

  it("obeys explicit densities of any selector", async () => {
    for (const kind of ["predicted", "oracle", "static", "random"]) {
      const argv = [...short, "--selector", kind, "--mlp-density", "25%", "--head-density", "1/2", "--json"];
      expect((await on("generate", argv)).json()).toMatchObject({
        selector: kind,
        mlpDensity: 0.25,
        headDensity: 0.5,
      });
    }
  });
});

describe("eval", () => {
  it("prints a score as one document", async () => {
    const { code, json } = await on("eval", ["--documents", "2", "--json"]);
    expect(code).toBe(0);
    const document = json();
    expect(document).toMatchObject({ selector: "predicted", documents: 2 });
    expect(document.bytesPerToken.mlp.touched).toBeGreaterThan(0);
    expect(document.activeNeuronShare).toHaveLength(2);
    expect(document.nllPerDocument).toBeUndefined();
  });

  it("prints tables", async () => {
    const { stdout } = await on("eval", ["--text", place.text, "--documents", "2", "--selector", "oracle"]);
    expect(stdout).toMatch(/^2 documents, \d+ scored tokens\n/);
    expect(stdout).toMatch(/perplexity +[\d.]+ +[\d.]+ +0\.00 %\n/);
    expect(stdout).toMatch(/MLP neurons +[\d.]+ % +100\.0 % +100\.0 %\n/);
  });

  it.each([
    ["neurons", ["--compare", "0.25,0.5"], [0.25, 0.5]],
    ["heads", ["--compare", "1/2", "--heads"], [0.5]],
  ])("compares selectors over %s", async (unit, argv, densities) => {
    const { json } = await on("eval", [...argv, "--documents", "1", "--json"]);
    const document = json();
    expect(document).toMatchObject({ unit, dense: expect.any(Number) });
    expect(document.rows.map((row: { density: number }) => row.density)).toEqual(densities);
    for (const row of document.rows)
      expect(Object.keys(row)).toEqual(["density", "oracle", "predicted", "static", "random"]);
    const { stdout } = await on("eval", [...argv, "--documents", "1"]);
    expect(stdout).toMatch(/density +oracle +predicted +static +random\n/);
  });
});

describe("bench", () => {
  const few = ["--tokens", "3", "--rounds", "2", "--prompt", "ab"];

  it("prints one document", async () => {
    const document = (await on("bench", [...few, "--json"])).json();
    const spread = { median: expect.any(Number), p25: expect.any(Number), p75: expect.any(Number) };
    expect(document).toMatchObject({
      machine: { cores: expect.any(Number), backend: "reference", instructionSet: "javascript" },
      model: { type: "opt", dtype: "f16" },
      ...{ threads: 1, tokens: 3, rounds: 2, probe: null, speedup: spread },
      dense: { tokensPerSecond: spread },
      sparse: { tokensPerSecond: spread, predictorShare: expect.any(Number) },
    });
    expect(document.dense.phases.predictor).toBe(0);
    expect(document.sparse.phases.predictor).toBeGreaterThan(0);
  });

  it("prints machine and settings above the tables", async () => {
    const { stdout } = await on("bench", [...few, "--selector", "static", "--mlp-density", "0.5"]);
    expect(stdout).toMatch(
      /reference backend \(javascript\)\n.*parameters.*\nin memory after .*\nthreads: 1; 3 tokens a round/,
    );
    expect(stdout).toMatch(/ dense +static +ratio\n/);
    expect(stdout).toMatch(/MLP density +100\.0 % +50\.0 %\n/);
  });

  it("times a published shape with random weights, and says so", async () => {
    const flags = ["--shape", "opt-125m", "--layers", "1", "--mlp-density", "0.25", "--head-density", "0.5"];
    const rest = ["--tokens", "2", "--rounds", "1", "--prompt-tokens", "1,2", "--predictor-dtype", "f16"];
    const document = (await dejavu(["bench", ...flags, ...rest, "--json"])).json();
    expect(document.synthetic).toEqual({ layers: 1, publishedLayers: 12 });
    expect(document.sparse.mlpDensity).toBeCloseTo(0.25, 2);
    expect(document.sparse.headDensity).toBe(0.5);
    expect(document.prompts.map(({ length }: { length: number }) => length)).toEqual([1, 2]);
    // Everything but the tables of tokens and positions: what a dense token reads.
    const [d, n, vocab] = [768, 3072, 50272];
    const weights = 2 * (4 * d * d + 2 * n * d + vocab * d + 2 * d);
    const all = weights + 4 * (9 * d + n + 2 * d);
    // The words are screened: instead of the output layer its copy in int8, and a few rows of it.
    expect(document.dense.bytesPerToken).toBeLessThan(all - 0.4 * 2 * vocab * d);
    expect(document.dense.bytesPerToken).toBeGreaterThan(all - 0.5 * 2 * vocab * d);
  });

  it("times weights in a folder, mapped and read", async () => {
    const weights = ["--weights", join(place.root, "opt-125m")];
    const flags = ["bench", "--shape", "opt-125m", "--layers", "1", "--dtype", "int4", ...weights, "--json"];
    const densities = ["--mlp-density", "0.25", "--tokens", "2", "--rounds", "1"];
    const bytes = async (...more: string[]) =>
      (await dejavu([...flags, ...densities, ...more])).json().dense.bytesPerToken;
    expect(await bytes()).toBe(await bytes("--no-mmap"));
    const { code, stderr } = await on("bench", [...few, ...weights]);
    expect([code, stderr]).toEqual([2, expect.stringContaining("goes with --shape")]);
  });

  it("refuses a shape that does not fit in memory, with the figure", async () => {
    const tooLarge = ["--shape", "opt-66b", "--dtype", "f32", "--layers", "900"];
    const { stderr, code } = await dejavu(["bench", ...tooLarge]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/needs [\d.]+ GB of memory and [\d.]+ GB are free/);
  });
});

describe("info", () => {
  it("tells of model, bundle and backend", async () => {
    const document = (await on("info", ["--json"])).json();
    expect(document).toMatchObject({
      model: { folder: place.model, modelType: "opt", layers: 2, heads: 2, dtype: "f16" },
      tokenizer: { vocabSize: 263, bosId: 1, eosId: 1 },
      bundle: { state: "fits", provenance: { texts: [{ name: "text.txt" }] } },
    });
    expect((await on("info", [])).stdout).toMatch(/\nbundle +\S+, fits\n/);
  });

  it("works without a bundle, and with one that does not fit", async () => {
    const none = await on("info", ["--bundle", join(place.root, "none"), "--json"]);
    expect(none.json().bundle).toEqual({ file: join(place.root, "none"), state: "missing" });
    const wrong = await on("info", ["--bundle", join(place.model, "model.safetensors")]);
    expect(wrong.code).toBe(0);
    expect(wrong.stdout).toMatch(/bundle +does not fit: .*not a bundle/);
  });
});

describe("demo", () => {
  it("tells the story twice and prints the table", async () => {
    const { code, stdout, stderr } = await on("demo", []);
    expect(code, stderr).toBe(0);
    const text = stripVTControlCharacters(stdout);
    expect(text.match(/Once upon a time/g)).toHaveLength(2);
    expect(text).toMatch(/\ntokens\/s +[\d.,]+ +[\d.,]+ +[\d.]+×\n/);
    expect(text).toMatch(/\nperplexity +[\d.,]+ +[\d.,]+ /);
    expect(text).toMatch(/Try next:\n {2}dejavu generate/);
    expect(stderr).toContain("the demo does less");
  });

  it("prints one document", async () => {
    const document = (await on("demo", ["--json"])).json();
    expect(document).toMatchObject({
      threads: 1,
      perplexity: { documents: 1 },
      speedup: { median: expect.any(Number) },
    });
  });
});

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { report } from "../../src/cli/errors.ts";
import { Interrupted, type Io } from "../../src/cli/io.ts";
import { dejavu, makeWorkplace, type Workplace } from "./tools.ts";

let place: Workplace;
beforeAll(async () => {
  place = await makeWorkplace();
});
afterAll(() => place.remove());

const reference = ["--backend", "reference"];

describe("mistakes in use", () => {
  it.each([
    ["an unknown command", ["frobnicate"], /unknown command 'frobnicate'/],
    ["an unknown option", ["info", "--jsn"], /unknown option '--jsn'.*--json/],
    ["a missing prompt", ["generate"], /'--prompt <text>' not specified/],
    [
      "a word for a number",
      ["generate", "--prompt", "a", "--top-k", "x"],
      /'--top-k <n>' argument 'x' is invalid\. It must be an integer of at least 0\./,
    ],
    [
      "a number too large",
      ["info", "--threads", "257"],
      /'--threads <n>' argument '257' is invalid\. It must be an integer from 1 to 256\./,
    ],
    [
      "a share above 1",
      ["eval", "--mlp-density", "5\u002f4"],
      /'--mlp-density <share>' argument '5\/4' is invalid/,
    ],
    [
      "one bad share of several",
      ["eval", "--compare", "0.1,0"],
      /'--compare <densities>' argument '0\.1,0' is invalid/,
    ],
    [
      "options that exclude each other",
      ["eval", "--compare", "0.1", "--selector", "static"],
      /'--compare <densities>' cannot be used with option '--selector <kind>'/,
    ],
    [
      "a budget beside a recall",
      ["prepare", "--text", "a", "--max-perplexity-increase", "0.01", "--recall", "0.9"],
      /'--max-perplexity-increase <share>' cannot be used with option '--recall <share>'/,
    ],
    [
      "a quality of the dense model",
      ["eval", "--selector", "dense", "--quality", "0.01"],
      /--quality 0\.01 says nothing to the dense selector/,
    ],
    [
      "a quality beside a density",
      ["eval", "--selector", "predicted", "--quality", "0.01", "--mlp-density", "0.1"],
      /quality 0\.01 picks a policy/,
    ],
    ["--heads alone", ["eval", "--heads"], /--heads .*--compare/],
    [
      "an unknown selector",
      ["bench", "--selector", "best"],
      /'--selector <kind>' argument 'best' is invalid\. Allowed choices are/,
    ],
    ["too many arguments", ["info", "a", "b"], /too many arguments for 'info'/],
    ["dense against dense", ["bench", "--selector", "dense"], /--selector dense/],
    ["too few rows", ["prepare", "--text", "a", "--rows", "10"], /'--rows <n>' argument '10' is invalid/],
  ])("%s: one line, exit code 2", async (_, argv, message) => {
    const { code, stdout, stderr } = await dejavu(argv);
    expect(code).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^dejavu: [^\n]+\n$/);
  });

  it("densities that the dense selector ignores", async () => {
    const argv = ["generate", place.model, ...reference, "--prompt", "ab", "--head-density", "0.5"];
    const { code, stderr } = await dejavu(argv);
    expect(code).toBe(2);
    expect(stderr).toBe(
      "dejavu: --head-density 0.5 says nothing to the dense selector; choose another with --selector\n",
    );
  });

  it("a context overflow", async () => {
    const argv = ["generate", place.model, ...reference, "--prompt", "ab", "--max-tokens", "500"];
    const { code, stdout, stderr } = await dejavu(argv);
    expect(code).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^dejavu: .*500 more are asked for, but only 128 fit.*\n$/);
  });
});

describe("failures", () => {
  it.each([
    ["a folder that is no model", () => ["info", place.root], "ConfigError", /config\.json/],
    [
      "a bundle named but absent",
      () => ["generate", place.model, ...reference, "--prompt", "ab", "--bundle", join(place.root, "none")],
      "BundleError",
      /none: .*dejavu prepare/,
    ],
    ["a demo without a bundle", () => ["demo", place.model, ...reference], "BundleError", /dejavu prepare/],
    [
      "a bundle that is none",
      () => ["eval", place.model, ...reference, "--bundle", join(place.model, "model.safetensors")],
      "BundleError",
      /not a bundle/,
    ],
  ])("%s: one line, exit code 1, and an error document", async (_, argv, name, message) => {
    const plain = await dejavu(argv());
    expect(plain).toMatchObject({ code: 1, stdout: "" });
    expect(plain.stderr).toMatch(message);
    expect(plain.stderr).toMatch(/^dejavu: [^\n]+\n$/);
    const asJson = await dejavu([...argv(), "--json"]);
    expect(asJson).toMatchObject({ code: 1, stderr: plain.stderr });
    expect(asJson.json()).toEqual({ error: { name, message: plain.stderr.slice("dejavu: ".length, -1) } });
  });

  it("a text that is not there names it", async () => {
    const { code, stderr } = await dejavu(["eval", place.model, ...reference, "--text", "/no/such/text"]);
    expect(code).toBe(2);
    expect(stderr).toContain("/no/such/text");
  });

  it("a folder that takes no bundle is found before the work", async () => {
    const out = join(place.root, "no", "such", "folder", "b.safetensors");
    const { code, stderr } = await dejavu([
      "prepare",
      place.model,
      ...reference,
      "--text",
      place.text,
      "--out",
      out,
    ]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^dejavu: --out .*b\.safetensors: no file can be written/);
  });

  it("what nobody expected comes with its stack and the wish for a report", () => {
    let stderr = "";
    const io = { stderr: { write: (text: string) => (stderr += text) } } as unknown as Io;
    expect(report(new TypeError("oops"), io, false)).toBe(1);
    expect(stderr).toMatch(/^dejavu: oops\nTypeError: oops\n +at .*errors\.test\.ts/);
    expect(stderr).toContain("Please report it");
  });
});

describe("an interruption", () => {
  it.each([
    ["generate", () => ["--prompt", "ab"]],
    ["eval", () => ["--selector", "dense"]],
    ["prepare", () => ["--text", place.text, "--out", join(place.root, "out", "b.safetensors")]],
  ])("stops %s with exit code 130 and leaves nothing", async (name, more) => {
    const signal = AbortSignal.abort(new Interrupted(130));
    const { code, stderr, json } = await dejavu(
      [name, place.model, ...reference, ...more(), "--json", "--quiet"],
      { signal },
    );
    expect(code).toBe(130);
    expect(stderr).toBe("dejavu: interrupted\n");
    expect(json()).toEqual({ error: { name: "Interrupted", message: "interrupted" } });
    expect(existsSync(join(place.root, "out"))).toBe(false);
    expect(readdirSync(place.root).sort()).toEqual(["model", "text.txt"]);
  });
});

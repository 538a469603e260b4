/** `dejavu study` as a command line. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Interrupted } from "../../src/cli/io.ts";
import { reportSchema } from "../../src/study/schema.ts";
import { dejavu, makeWorkplace, type Workplace } from "../cli/tools.ts";

let place: Workplace;
beforeAll(async () => {
  place = await makeWorkplace();
});
afterAll(() => place.remove());

const argv = (...more: string[]) => [
  ...["study", place.model, "--text", place.text, "--out", join(place.root, "out")],
  ...["--quick", "--documents", "1", "--threads", "1", ...more],
];

describe("dejavu study", () => {
  it("leaves nothing but the folder when stopped at once", async () => {
    const signal = AbortSignal.abort(new Interrupted(130));
    const { code, stderr } = await dejavu(argv(), { signal });
    expect(code).toBe(130);
    expect(stderr).toContain("dejavu: interrupted\n");
    expect(readdirSync(place.root).sort()).toEqual(["model", "text.txt"]);
  });

  it("tells of its stages, and prints and writes the same report", async () => {
    const { code, stderr, json } = await dejavu(argv("--json"));
    expect(code).toBe(0);
    for (const stage of ["observing activations", "timing", "quality over density"])
      expect(stderr).toMatch(new RegExp(`^${stage}: done in`, "m"));
    const report = reportSchema.parse(json());
    expect(JSON.parse(readFileSync(join(place.root, "out", "report.json"), "utf8"))).toEqual(report);
    expect(report.command).toBe(
      "dejavu study model --text text.txt --documents 1 --quick --threads 1 --out out",
    );
    expect(readdirSync(join(place.root, "out")).sort()).toEqual(["report.html", "report.json", "study.json"]);
  });

  it("says what it keeps, and sums up for people", async () => {
    rmSync(join(place.root, "out", "report.html"));
    const { code, stdout, stderr } = await dejavu(argv());
    expect(code).toBe(0);
    expect(stderr).toMatch(/finished parts are kept/);
    expect(stderr).not.toMatch(/quality over density/);
    expect(stdout).toMatch(/^- Over [\d,]+ tokens, a token activates/);
    expect(stdout).toContain("report.html");
    const quiet = await dejavu(argv("--quiet"));
    expect(quiet.stderr).toBe("");
  });

  it.each([
    ["no text", () => argv().filter((word) => word !== "--text" && word !== place.text), /--text <file/],
    ["no document", () => argv("--documents", "0"), /'--documents <n>' argument '0'/],
    ["an unreadable text", () => argv("--text", "/no/such/text"), /\/no\/such\/text: cannot be read/],
    ["a file as folder", () => argv("--out", place.text), /--out .*text\.txt: cannot be made a folder/],
  ])("%s is a mistake in use", async (_, words, message) => {
    const { code, stderr } = await dejavu(words());
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });

  it("refuses a bundle that was named but is not there, or is none", async () => {
    const broken = join(place.root, "broken");
    writeFileSync(broken, "x");
    for (const file of [broken, join(place.root, "none")]) {
      const { code, stderr } = await dejavu(argv("--bundle", file));
      expect(code).toBe(1);
      expect(stderr).toContain(file);
    }
  });
});

/** The example that the README (else the library's own comment) publishes is run as it stands there. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { shippedBundle } from "../helpers/stories-bundle.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = fileURLToPath(new URL(".tmp/", import.meta.url));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The blocks of code tagged ts that import the package. */
function examples(markdown: string): string[] {
  const blocks = [...markdown.matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(([, code]) => code!);
  return blocks.filter((code) => code.includes('from "dejavu"'));
}

function publishedExamples(): string[] {
  const readme = `${root}README.md`;
  const found = existsSync(readme) ? examples(readFileSync(readme, "utf8")) : [];
  const comment = readFileSync(`${root}src/index.ts`, "utf8").replace(/^ \* ?/gm, "");
  return found.length > 0 ? found : examples(comment);
}

describe("the published example", () => {
  it("exists", () => {
    expect(publishedExamples().length).toBeGreaterThan(0);
  });

  it.skipIf(shippedBundle() === null)("runs and prints a story", async () => {
    const [code] = publishedExamples();
    mkdirSync(folder, { recursive: true });
    const file = `${folder}example.ts`;
    writeFileSync(file, code!.replace('from "dejavu"', 'from "../../../src/index.ts"'));
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--import", "tsx", file], {
      cwd: root,
    });
    expect(stdout.trim().split(/\s+/).length).toBeGreaterThan(20);
    expect(stderr).toBe("");
  });
});

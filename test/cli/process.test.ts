/** What only a process of its own shows: signals and closed pipes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeWorkplace, type Workplace } from "./tools.ts";

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

let place: Workplace;
let temporary: string;
beforeAll(async () => {
  place = await makeWorkplace();
  temporary = join(place.root, "tmp");
  mkdirSync(temporary);
});
afterAll(() => place.remove());

interface Running {
  readonly child: ChildProcess;
  readonly stderr: () => string;
  readonly ended: Promise<number | null>;
}

function start(command: string, ...argv: string[]): Running {
  const all = ["--import", "tsx", main, command, place.model, "--backend", "reference", ...argv];
  const child = spawn(process.execPath, all, { env: { ...process.env, TMPDIR: temporary } });
  let stderr = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = once(child, "close").then(([code]) => code as number | null);
  return { child, stderr: () => stderr, ended };
}

async function stderrHas({ child, stderr }: Running, text: string): Promise<void> {
  while (!stderr().includes(text)) await once(child.stderr!, "data");
}

describe("a process", () => {
  it("stopped with Ctrl-C while it prepares leaves no file behind", { timeout: 30_000 }, async () => {
    const out = join(place.root, "bundle.safetensors");
    const running = start(
      "prepare",
      "--text",
      place.text,
      "--rows",
      "2000",
      "--epochs",
      "1000",
      "--out",
      out,
    );
    running.child.stdout!.resume();
    await stderrHas(running, "training predictors …");
    running.child.kill("SIGINT");
    expect(await running.ended).toBe(130);
    expect(running.stderr()).toMatch(/\ndejavu: interrupted\n$/);
    expect(readdirSync(place.root).sort()).toEqual(["model", "text.txt", "tmp"]);
    expect(readdirSync(temporary).filter((name) => name.startsWith("dejavu"))).toEqual([]);
  });

  it("whose stdout nobody reads ends quietly", { timeout: 30_000 }, async () => {
    const running = start("generate", "--prompt", "ab", "--max-tokens", "100", "--quiet");
    running.child.stdout!.destroy();
    expect(await running.ended).toBe(0);
    expect(running.stderr()).toBe("");
  });
});

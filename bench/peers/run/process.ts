/** Runs a program to its end and reads the one line of JSON that it prints. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { cpuTimes, othersShare } from "./others.ts";

export interface Outcome {
  readonly value: unknown;
  /** Share of the machine's CPU time that other processes took meanwhile; null where the system does not tell. */
  readonly othersShare: number | null;
}

/** Lines of stderr that an error quotes. */
const quotedLines = 12;

interface Ended {
  readonly stdout: string;
  readonly stderr: string;
  readonly how: string | null;
}

function run(args: readonly string[], signal: AbortSignal): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], signal });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (code, by) =>
      resolve({ stdout, stderr, how: code === 0 ? null : (by ?? `exit code ${code}`) }),
    );
  });
}

/** Runs Node with `args`; `what` names the program in errors. */
export async function runForJson(
  what: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<Outcome> {
  const before = cpuTimes();
  const { stdout, stderr, how } = await run(args, signal);
  const share = othersShare(before, cpuTimes());
  const quote = stderr.trim().split("\n").slice(-quotedLines).join("\n");
  if (how !== null) throw new Error(`${what} failed (${how}):\n${quote}`);
  const line = stdout.trim().split("\n").at(-1) ?? "";
  try {
    return { value: JSON.parse(line), othersShare: share };
  } catch {
    throw new Error(`${what} printed no JSON but "${line.slice(0, 200)}"\n${quote}`);
  }
}

/** Arguments for Node that run a TypeScript file of this package. */
export const script = (path: string, ...args: readonly string[]): string[] => [
  "--import",
  import.meta.resolve("tsx"),
  fileURLToPath(new URL(`../${path}`, import.meta.url)),
  ...args,
];

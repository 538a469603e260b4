/** `dejavu <command> [model] [options]`: the dispatcher. */
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { version } from "../util/version.ts";
import { addCommand, type CommandSpec } from "./command.ts";
import { benchCommand } from "./commands/bench.ts";
import { demoCommand } from "./commands/demo.ts";
import { evalCommand } from "./commands/eval.ts";
import { generateCommand } from "./commands/generate.ts";
import { infoCommand } from "./commands/info.ts";
import { prepareCommand } from "./commands/prepare.ts";
import { quantizeCommand } from "./commands/quantize.ts";
import { studyCommand } from "./commands/study.ts";
import { report } from "./errors.ts";
import type { Io } from "./io.ts";
import { startProcess } from "./process.ts";

export const commands: readonly CommandSpec[] = [
  demoCommand,
  generateCommand,
  prepareCommand,
  quantizeCommand,
  evalCommand,
  studyCommand,
  benchCommand,
  infoCommand,
];

function createProgram(io: Io): Command {
  const program = new Command("dejavu")
    .description(
      "LLM inference that computes, for each token, only the heads and neurons that matter for it.",
    )
    .version(version, "-V, --version", "print the version")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: () => {}, // `report` says it
      getOutHelpWidth: () => io.stdout.columns || 100,
      getErrHelpWidth: () => io.stderr.columns || 100,
    })
    .addHelpText(
      "after",
      '\nExamples:\n  dejavu demo\n  dejavu generate --prompt "Once upon a time"\n  dejavu bench --help',
    );
  for (const spec of commands) addCommand(program, io, spec);
  return program;
}

/** Runs one command line (without node and script) and returns its exit code. */
export async function run(argv: string[], io: Io): Promise<number> {
  try {
    await createProgram(io).parseAsync(argv, { from: "user" });
    return 0;
  } catch (error) {
    return report(error, io, argv.includes("--json"));
  }
}

export const start = (): Promise<void> => startProcess(run);

if (process.argv[1] === fileURLToPath(import.meta.url)) await start();

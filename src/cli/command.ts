/** What all commands have in common: model argument, shared flags, help with examples. */
import { Argument, type Command, type Option } from "commander";
import { bundledModel } from "../load.ts";
import type { Io } from "./io.ts";
import { type CommonFlags, commonOptions } from "./options.ts";
import { Output } from "./output.ts";

export interface Context {
  readonly io: Io;
  readonly output: Output;
  readonly signal: AbortSignal;
  /** The model's folder. */
  readonly folder: string;
}

export interface CommandSpec<Flags extends CommonFlags = CommonFlags> {
  readonly name: string;
  readonly summary: string;
  /** What the help says besides; default: the summary alone. */
  readonly details?: string;
  /** Arguments of `dejavu`, and what they do. */
  readonly examples: readonly (readonly [string, string])[];
  /** Of its own; one that has the name of a common option stands in its place. */
  readonly options: readonly Option[];
  run(context: Context, flags: Flags): Promise<void>;
}

function examplesText(examples: CommandSpec["examples"]): string {
  const lines = examples.map(([line, what]) => `  # ${what}\n  dejavu ${line}`);
  return `\nExamples:\n${lines.join("\n")}`;
}

export function addCommand(program: Command, io: Io, spec: CommandSpec): void {
  const command = program
    .command(spec.name)
    .summary(spec.summary)
    .description([`${spec.summary}.`, spec.details].filter(Boolean).join("\n"))
    .addArgument(
      new Argument("[model]", "model folder in Hugging Face's layout").default(
        bundledModel,
        "the bundled model",
      ),
    )
    .addHelpText("after", examplesText(spec.examples));
  const taken = new Set(spec.options.map(({ long }) => long));
  const common = commonOptions.filter(({ long }) => !taken.has(long));
  for (const option of [...spec.options, ...common]) command.addOption(option);
  command.action(async (folder: string, flags: CommonFlags) => {
    const output = new Output(io, flags);
    try {
      await spec.run({ io, output, signal: io.signal, folder }, flags);
    } finally {
      output.progress.end();
    }
  });
}

/** Arguments of the kernel benches, and their help. */
import { type ParseArgsConfig, parseArgs } from "node:util";

type Options = NonNullable<ParseArgsConfig["options"]>;

/** Reads the arguments of this process; after `--help`, or what `options` does not name, it ends with what `usage` says. */
export function readArguments<O extends Options>(usage: string, options: O, allowPositionals = false) {
  const config = { options: { ...options, help: { type: "boolean" } }, allowPositionals } as const;
  try {
    const { values, positionals } = parseArgs(config);
    if (!("help" in values)) return { values, positionals: positionals as readonly string[] };
    console.log(usage);
    process.exit(0);
  } catch (cause) {
    console.error(`${(cause as Error).message}\n\n${usage}`);
    process.exit(2);
  }
}

export const listOf = (text: string | undefined, standard: readonly string[]): readonly string[] =>
  text?.split(",") ?? standard;

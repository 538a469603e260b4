/** Errors → one sentence on stderr, a JSON document where one is due, and the exit code. */
import { CommanderError } from "commander";
import { NativeUnavailableError } from "../kernels/native/binding.ts";
import { ContextOverflowError, DejavuError, UsageError } from "../util/errors.ts";
import { Interrupted, type Io, OutputClosed } from "./io.ts";

export const exitCode = { success: 0, failure: 1, usage: 2 } as const;

/** Help and version come as errors out of commander; they are none. */
const isDone = (error: unknown) => error instanceof CommanderError && error.exitCode === 0;

const isUsage = (error: unknown) =>
  error instanceof CommanderError || error instanceof UsageError || error instanceof ContextOverflowError;

/** Errors of the disk and the system: their message says what and where. */
const isSystem = (error: unknown) =>
  error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === "string";

const isExpected = (error: unknown) =>
  isUsage(error) ||
  isSystem(error) ||
  error instanceof DejavuError ||
  error instanceof NativeUnavailableError ||
  error instanceof Interrupted;

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof CommanderError && error.code === "commander.help") return "no command was given";
  const message = error instanceof CommanderError ? error.message.replace(/^error: /, "") : error.message;
  return message.replace(/\s*\n\s*/g, " ");
}

/** Says what went wrong and returns the exit code. */
export function report(error: unknown, io: Io, json: boolean): number {
  if (isDone(error) || error instanceof OutputClosed) return exitCode.success;
  const message = messageOf(error);
  const name = error instanceof CommanderError ? "UsageError" : error instanceof Error ? error.name : "Error";
  if (json) io.stdout.write(`${JSON.stringify({ error: { name, message } })}\n`);
  io.stderr.write(`dejavu: ${message}\n`);
  if (!isExpected(error)) {
    const stack = error instanceof Error ? error.stack : undefined;
    io.stderr.write(
      `${stack ?? ""}\nThis is a mistake in dejavu. Please report it, with the command and the lines above.\n`,
    );
  }
  if (error instanceof Interrupted) return error.exitCode;
  return isUsage(error) ? exitCode.usage : exitCode.failure;
}

/** The command line as a process: streams, Ctrl-C, closed pipes, exit code. */
import { Interrupted, type Io, OutputClosed } from "./io.ts";

/** As shells report a process ended by the signal. */
const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

/** The first signal asks the command to stop cleanly; the second ends the process at once. */
function listenToSignals(controller: AbortController): void {
  for (const [name, code] of Object.entries(exitCodes))
    process.on(name, () => {
      if (controller.signal.reason instanceof Interrupted) process.exit(code);
      controller.abort(new Interrupted(code));
    });
}

function listenToStreams(controller: AbortController): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    controller.abort(new OutputClosed("nobody reads stdout"));
  });
  // With stderr gone there is nobody left to tell.
  process.stderr.on("error", () => {});
}

/** Runs the command of `process.argv` and sets the exit code; the process ends when its output is written. */
export async function startProcess(run: (argv: string[], io: Io) => Promise<number>): Promise<void> {
  const controller = new AbortController();
  listenToSignals(controller);
  listenToStreams(controller);
  const { stdin, stdout, stderr } = process;
  process.exitCode = await run(process.argv.slice(2), { stdin, stdout, stderr, signal: controller.signal });
}

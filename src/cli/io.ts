/** What a command may touch of the process: tests hand in their own. */
export interface OutStream extends NodeJS.WritableStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Io {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdout: OutStream;
  readonly stderr: OutStream;
  /** Aborted by Ctrl-C (reason `Interrupted`) and when nobody reads stdout any more (reason `OutputClosed`). */
  readonly signal: AbortSignal;
}

/** The user ended the program. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  readonly exitCode: number;

  constructor(exitCode: number) {
    super("interrupted");
    this.exitCode = exitCode;
  }
}

/** The reader of stdout went away, as `head` does: no fault of anyone. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

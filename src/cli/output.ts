/** What a command says: the result on stdout, as text or as one JSON document; everything else on stderr. */
import colors from "picocolors";
import type { Io, OutStream } from "./io.ts";
import { Progress } from "./progress.ts";

type Colors = ReturnType<typeof colors.createColors>;

/** Terminals only, unless FORCE_COLOR says otherwise; NO_COLOR always wins. */
const colorsFor = (stream: OutStream): Colors =>
  colors.createColors(colors.isColorSupported && (stream.isTTY === true || "FORCE_COLOR" in process.env));

/** Columns of a table where stdout is no terminal: wide enough for all of ours. */
const fileWidth = 160;

export interface OutputFlags {
  readonly json?: boolean | undefined;
  readonly quiet?: boolean | undefined;
}

export class Output {
  readonly isJson: boolean;
  /** Colours for stdout. */
  readonly colors: Colors;
  readonly progress: Progress;
  readonly #io: Io;
  readonly #isQuiet: boolean;
  readonly #noted = new Set<string>();

  constructor(io: Io, flags: OutputFlags) {
    this.#io = io;
    this.isJson = flags.json ?? false;
    this.#isQuiet = flags.quiet ?? false;
    this.colors = colorsFor(io.stdout);
    this.progress = new Progress(io.stderr, !this.#isQuiet);
  }

  /** Columns that a table may take. */
  get width(): number {
    // Some terminals claim to have none.
    return this.#io.stdout.columns || fileWidth;
  }

  /** Text for people, on stdout; nothing with --json. */
  write(text: string): void {
    if (!this.isJson) this.#io.stdout.write(text);
  }

  /** A remark on stderr, each once; nothing with --quiet. */
  note(sentence: string): void {
    if (this.#isQuiet || this.#noted.has(sentence)) return;
    this.#noted.add(sentence);
    this.progress.end();
    this.#io.stderr.write(`${colorsFor(this.#io.stderr).dim(sentence)}\n`);
  }

  /** The command's result: `json` as one document with --json, else the text. */
  result(json: unknown, text: () => string): void {
    this.progress.end();
    this.#io.stdout.write(this.isJson ? `${JSON.stringify(json)}\n` : text());
  }
}

/** The command line in this process: a tiny random model, streams that remember, one call per command line. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import type { Io, OutStream } from "../../src/cli/io.ts";
import { run } from "../../src/cli/main.ts";
import { plain, writeRandomCheckpoint } from "../helpers/random-checkpoint.ts";
import { tinyFiles } from "../text/tiny.ts";

const variant = {
  ...plain,
  hidden_size: 16,
  word_embed_proj_dim: 16,
  ffn_dim: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 270,
  max_position_embeddings: 128,
};

export interface Workplace {
  readonly root: string;
  readonly model: string;
  readonly text: string;
  remove(): void;
}

/** A folder with a model, a text of 60 documents, and the same text as the model's sample. */
export async function makeWorkplace(): Promise<Workplace> {
  const root = mkdtempSync(join(tmpdir(), "dejavu-cli-"));
  const model = join(root, "model");
  await writeRandomCheckpoint(model, variant, "f16");
  const files = tinyFiles({ "config.json": null });
  mkdirSync(model, { recursive: true });
  for (const [name, content] of Object.entries(files))
    if (content !== null)
      writeFileSync(join(model, name), typeof content === "string" ? content : JSON.stringify(content));
  const documents = Array.from(
    { length: 60 },
    (_, d) => `document ${d}: ${"ab abba cab ".repeat(4 + (d % 3))}`,
  );
  const text = join(root, "text.txt");
  writeFileSync(text, documents.join("\n<|endoftext|>\n"));
  writeFileSync(join(model, "sample.txt"), documents.slice(0, 4).join("\n<|endoftext|>\n"));
  return { root, model, text, remove: () => rmSync(root, { recursive: true, force: true }) };
}

class Memory extends Writable implements Pick<OutStream, "isTTY" | "columns"> {
  text = "";
  readonly isTTY: boolean;
  readonly columns = 100;

  constructor(isTTY: boolean) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
  }

  override _write(chunk: string | Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout as one JSON document; throws if it is anything else. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into documents of many shapes
  json(): any;
}

export interface Setting {
  readonly stdin?: string;
  readonly signal?: AbortSignal;
  readonly isTTY?: boolean;
}

/** Runs one command line on the reference backend, unless it names another. */
export async function dejavu(argv: readonly string[], setting: Setting = {}): Promise<Outcome> {
  const { stdin = "", signal = new AbortController().signal, isTTY = false } = setting;
  const [stdout, stderr] = [new Memory(isTTY), new Memory(isTTY)];
  const input = (async function* () {
    yield stdin;
  })();
  const io: Io = { stdin: input, stdout, stderr, signal };
  const code = await run([...argv], io);
  return {
    code,
    stdout: stdout.text,
    stderr: stderr.text,
    json() {
      if (!stdout.text.endsWith("\n")) throw new Error("stdout does not end with a line break");
      return JSON.parse(stdout.text);
    },
  };
}

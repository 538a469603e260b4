/** Files that are there whole or not at all. */
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** Small pieces are gathered up to this many bytes. */
const gatherBytes = 2 ** 22;

export class PatientFile {
  readonly #path: string;
  readonly #signal: AbortSignal | undefined;
  #handle: Awaited<ReturnType<typeof open>> | undefined;
  #gathered: Buffer[] = [];
  #gatheredBytes = 0;
  #size = 0;

  constructor(path: string, signal?: AbortSignal) {
    this.#path = path;
    this.#signal = signal;
  }

  /** Bytes written so far. */
  get size(): number {
    return this.#size;
  }

  /** Copies `bytes`: the caller may overwrite them. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#gathered.push(Buffer.from(bytes));
    this.#gatheredBytes += bytes.length;
    this.#size += bytes.length;
    if (this.#gatheredBytes >= gatherBytes) await this.#flush();
  }

  /** Zeros up to the next multiple of `alignment`. */
  async align(alignment: number): Promise<void> {
    const over = this.#size % alignment;
    if (over > 0) await this.write(new Uint8Array(alignment - over));
  }

  async #flush(): Promise<void> {
    this.#signal?.throwIfAborted();
    if (!this.#handle) {
      await mkdir(dirname(this.#path), { recursive: true });
      this.#handle = await open(this.#partial, "w");
    }
    const whole = Buffer.concat(this.#gathered);
    this.#gathered = [];
    this.#gatheredBytes = 0;
    for (let done = 0; done < whole.length; ) done += (await this.#handle.write(whole, done)).bytesWritten;
  }

  get #partial(): string {
    return `${this.#path}.partial`;
  }

  /** Puts the file in place. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#handle?.close();
    await rename(this.#partial, this.#path);
  }

  /** Leaves nothing behind. */
  async abandon(): Promise<void> {
    await this.#handle?.close();
    await rm(this.#partial, { force: true });
  }
}

/** Runs `write` on a new file at `path`; if it throws, or `signal` is raised, there is no file. */
export async function writeFile(
  path: string,
  write: (file: PatientFile) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const file = new PatientFile(path, signal);
  try {
    await write(file);
    await file.finish();
  } catch (error) {
    await file.abandon();
    throw error;
  }
}

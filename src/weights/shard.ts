/** One open safetensors file. */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { WeightsError } from "../util/errors.ts";
import { type Header, headerLength, parseHeader, prefixBytes } from "./header.ts";
import type { TensorInfo } from "./layout.ts";
import { type Prepared, understandHeader } from "./prepared.ts";

const readChunkBytes = 64 * 1024 * 1024;

/** The reason that an operating system call failed, in words. */
export function systemReason(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException).code;
  switch (code) {
    case "ENOENT":
      return "there is no such file";
    case "EACCES":
    case "EPERM":
      return "permission denied";
    case "EISDIR":
      return "this is a folder, not a file";
    case "EMFILE":
    case "ENFILE":
      return "too many files are open";
    default:
      return cause instanceof Error ? cause.message : String(cause);
  }
}

export class Shard {
  readonly file: string;
  readonly header: Header & { readonly prepared: Prepared | null };
  readonly #handle: FileHandle;
  readonly #size: number;

  private constructor(file: string, handle: FileHandle, size: number, header: Shard["header"]) {
    this.file = file;
    this.#handle = handle;
    this.#size = size;
    this.header = header;
  }

  /** Opens the file and checks its header. Throws a WeightsError. */
  static async open(file: string): Promise<Shard> {
    let handle: FileHandle;
    try {
      // Without O_NONBLOCK the opening of a named pipe would wait for a writer.
      handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    } catch (cause) {
      throw new WeightsError({ file, reason: systemReason(cause) }, { cause });
    }
    try {
      const status = await handle.stat();
      if (!status.isFile()) {
        const what = status.isDirectory() ? "a folder" : "a pipe or device";
        throw new WeightsError({ file, reason: `this is ${what}, not a file` });
      }
      const prefix = new Uint8Array(Math.min(prefixBytes, status.size));
      await fill(handle, prefix, 0, file);
      const bytes = new Uint8Array(prefixBytes + headerLength(prefix, status.size, file));
      await fill(handle, bytes, 0, file);
      const header = parseHeader(bytes, status.size, file);
      return new Shard(file, handle, status.size, understandHeader(header, file));
    } catch (cause) {
      await handle.close();
      throw cause;
    }
  }

  /** Fills `into` with the tensor's bytes from `byteOffset` on. */
  async read(tensor: TensorInfo, into: Uint8Array, byteOffset: number): Promise<void> {
    await this.#checkSize();
    await fill(this.#handle, into, tensor.begin + byteOffset, this.file);
  }

  /** Bytes of the whole file. */
  get size(): number {
    return this.#size;
  }

  /** Fills `into` with the file's bytes from `position` on. */
  async readFile(into: Uint8Array, position: number): Promise<void> {
    await this.#checkSize();
    await fill(this.#handle, into, position, this.file);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  async #checkSize(): Promise<void> {
    const { size } = await this.#handle.stat();
    if (size === this.#size) return;
    const reason = `the file had ${this.#size} bytes when it was opened and has ${size} now`;
    throw new WeightsError({
      file: this.file,
      reason,
      remedy: "Do not change weights while they are in use.",
    });
  }
}

/** Reads until `into` is full, at most 64 MiB a call. Throws a WeightsError if the file ends before. */
async function fill(handle: FileHandle, into: Uint8Array, position: number, file: string): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const wanted = Math.min(readChunkBytes, into.length - done);
    const { bytesRead } = await handle.read(into, done, wanted, position + done).catch((cause: unknown) => {
      throw new WeightsError({ file, reason: systemReason(cause) }, { cause });
    });
    if (bytesRead === 0) throw new WeightsError({ file, reason: `the file ends at byte ${position + done}` });
    done += bytesRead;
  }
}

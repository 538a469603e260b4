/** Writing of safetensors files: into a temporary file beside the target, which it replaces when all is on disk. */
import { randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { WeightsError } from "../util/errors.ts";
import { parseHeader, prefixBytes } from "./header.ts";
import { elementBytes, type TensorDtype, type TensorInfo, tensorBytes } from "./layout.ts";
import { systemReason } from "./shard.ts";

/** The data starts at a multiple of this, so that every tensor is aligned to its elements. */
export const dataAlignment = 64;

/** Names of tensors that only fill gaps start with this. */
const paddingPrefix = "__padding__.";

export interface PlannedTensor {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
}

export interface TensorData extends PlannedTensor {
  /** Little-endian elements in row-major order. */
  readonly data: Uint8Array;
}

export interface WriteOptions {
  /** Every tensor starts at a multiple of this power of two, at most 64, in the file; tensors of padding, named so, fill the gaps. */
  readonly alignment?: number | undefined;
}

export interface SafetensorsWriter {
  /**
   * Writes `bytes` at `byteOffset` within the tensor. Ranges may come in any order, each byte once.
   * @throws WeightsError if the range exceeds the tensor or the disk refuses
   */
  write(name: string, byteOffset: number, bytes: Uint8Array): Promise<void>;
  /** Puts the file in its place. Throws a WeightsError, and abandons, if a tensor was not written whole. */
  finish(): Promise<void>;
  /** Removes the temporary file; nothing is in place. Does nothing after `finish` or a second time. */
  abandon(): Promise<void>;
}

/**
 * Writes a whole safetensors file. The same tensors and metadata give the same bytes, in whatever order they come.
 * @throws WeightsError if the tensors contradict the format, or the disk refuses; the signal's reason if aborted.
 *   Then a file that was at `file` before is as it was, and no temporary file is left.
 */
export async function writeSafetensors(
  file: string,
  tensors: readonly TensorData[],
  metadata: Readonly<Record<string, string>> = {},
  signal?: AbortSignal,
): Promise<void> {
  const writer = await createSafetensors(file, tensors, metadata);
  try {
    for (const { name, data } of tensors) {
      signal?.throwIfAborted();
      await writer.write(name, 0, data);
    }
    signal?.throwIfAborted();
    await writer.finish();
  } catch (cause) {
    await writer.abandon();
    throw cause;
  }
}

/**
 * Starts a safetensors file whose tensors are known but whose data comes later, in any order.
 * @throws WeightsError if the plan contradicts the format, or the disk refuses
 */
export async function createSafetensors(
  file: string,
  plan: readonly PlannedTensor[],
  metadata: Readonly<Record<string, string>> = {},
  { alignment = 1 }: WriteOptions = {},
): Promise<SafetensorsWriter> {
  const { bytes, fileSize } = buildHeader(file, plan, metadata, alignment);
  const { tensors } = parseHeader(bytes, fileSize, file); // what cannot be read back is not written
  const temporary = join(dirname(file), `.${basename(file)}.${randomUUID()}.tmp`);
  let handle: FileHandle | undefined;
  try {
    handle = await open(temporary, "wx");
    await writeAll(handle, bytes, 0);
    await handle.truncate(fileSize);
    return new FileWriter(file, temporary, handle, tensors);
  } catch (cause) {
    await handle?.close();
    if (handle !== undefined) await rm(temporary, { force: true });
    throw new WeightsError({ file, reason: `it cannot be written: ${systemReason(cause)}` }, { cause });
  }
}

/** Prefix and header: larger elements first and then by name, padded so that the data is aligned. */
function buildHeader(
  file: string,
  plan: readonly PlannedTensor[],
  metadata: Readonly<Record<string, string>>,
  alignment: number,
): { bytes: Uint8Array; fileSize: number } {
  const order = plan.toSorted(
    (a, b) => elementBytes[b.dtype] - elementBytes[a.dtype] || byText(a.name, b.name),
  );
  let end = 0;
  const entries: string[] = [];
  const add = ({ name, dtype, shape }: PlannedTensor): void => {
    const size = tensorBytes(dtype, shape);
    if (size === null) throw new WeightsError({ file, tensor: name, reason: `shape [${shape}] has no size` });
    const begin = end;
    end += size;
    entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
  };
  for (const tensor of order) {
    const gap = -end & (alignment - 1);
    if (gap > 0) add({ name: `${paddingPrefix}${entries.length}`, dtype: "U8", shape: [gap] });
    add(tensor);
  }
  const pairs = Object.entries(metadata).sort(([a], [b]) => byText(a, b));
  const described = pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  if (described.length > 0) entries.unshift(`"__metadata__":{${described.join(",")}}`);
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const dataStart = Math.ceil((prefixBytes + json.length) / dataAlignment) * dataAlignment;
  const bytes = new Uint8Array(dataStart).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(dataStart - prefixBytes), true);
  bytes.set(json, prefixBytes);
  return { bytes, fileSize: dataStart + end };
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

class FileWriter implements SafetensorsWriter {
  readonly #file: string;
  readonly #temporary: string;
  readonly #handle: FileHandle;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  readonly #written = new Map<string, number>();
  #over = false;

  constructor(file: string, temporary: string, handle: FileHandle, tensors: ReadonlyMap<string, TensorInfo>) {
    this.#file = file;
    this.#temporary = temporary;
    this.#handle = handle;
    this.#tensors = tensors;
  }

  async write(name: string, byteOffset: number, bytes: Uint8Array): Promise<void> {
    const tensor = this.#tensors.get(name);
    if (this.#over || tensor === undefined) {
      throw this.#fault(name, this.#over ? "the file is finished or abandoned" : "it was not planned");
    }
    const size = tensor.end - tensor.begin;
    if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset + bytes.length > size) {
      throw this.#fault(name, `${bytes.length} bytes at ${byteOffset} exceed its ${size} bytes`);
    }
    await writeAll(this.#handle, bytes, tensor.begin + byteOffset).catch((cause: unknown) => {
      throw this.#fault(name, `it cannot be written: ${systemReason(cause)}`, cause);
    });
    this.#written.set(name, (this.#written.get(name) ?? 0) + bytes.length);
  }

  async finish(): Promise<void> {
    if (this.#over) throw this.#fault(undefined, "the file is finished or abandoned");
    try {
      for (const { name, begin, end } of this.#tensors.values()) {
        if (name.startsWith(paddingPrefix)) continue; // zeros already
        const written = this.#written.get(name) ?? 0;
        if (written !== end - begin)
          throw this.#fault(name, `${written} of ${end - begin} bytes were written`);
      }
      await this.#handle.sync();
      await this.#handle.close();
      await rename(this.#temporary, this.#file);
    } catch (cause) {
      await this.abandon();
      if (cause instanceof WeightsError) throw cause;
      throw this.#fault(undefined, `it cannot be written: ${systemReason(cause)}`, cause);
    }
    this.#over = true;
    await syncFolder(dirname(this.#file));
  }

  async abandon(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await this.#handle.close().catch(() => undefined); // closed already if the renaming failed
    await rm(this.#temporary, { force: true });
  }

  #fault(tensor: string | undefined, reason: string, cause?: unknown): WeightsError {
    return new WeightsError({ file: this.#file, tensor, reason }, { cause });
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Makes the renaming itself durable. Some systems cannot open a folder; there the rename is all there is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r").catch(() => null);
  if (handle === null) return;
  await handle.sync().catch(() => undefined);
  await handle.close();
}

/** The header of a safetensors file, checked against the file's size before anything is allocated for its tensors. */
import { WeightsError } from "../util/errors.ts";
import { JsonCursor, JsonFault } from "./json-cursor.ts";
import { isTensorDtype, maxDimensions, maxHeaderBytes, type TensorInfo, tensorBytes } from "./layout.ts";

/** Bytes before the header: its length as a 64-bit little-endian integer. */
export const prefixBytes = 8;

const pointerStart = "version ";

export interface Header {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  /** Position of the first data byte in the file. */
  readonly dataStart: number;
}

/**
 * Length in bytes of the header that follows the 8-byte prefix.
 * @param prefix the first 8 bytes of the file or more
 * @param fileSize bytes of the whole file
 * @throws WeightsError if the file cannot hold such a header
 */
export function headerLength(prefix: Uint8Array, fileSize: number, file: string): number {
  if (fileSize < prefixBytes || prefix.length < prefixBytes) {
    throw new WeightsError({ file, reason: `${fileSize} bytes are too few for a safetensors file` });
  }
  if (new TextDecoder().decode(prefix.subarray(0, prefixBytes)) === pointerStart) {
    throw new WeightsError({
      file,
      reason: "this is a Git LFS pointer, not the weights themselves",
      remedy: "Run `git lfs pull` in the folder it came from, or download the file again.",
    });
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, prefixBytes).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes)) {
    throw new WeightsError({
      file,
      reason: `the header's length, ${length}, exceeds ${maxHeaderBytes} bytes`,
    });
  }
  if (length > BigInt(fileSize - prefixBytes)) {
    throw new WeightsError({
      file,
      reason: `the header's length, ${length}, exceeds the file's ${fileSize} bytes`,
      remedy: "The file may be truncated: download it again.",
    });
  }
  return Number(length);
}

/**
 * Reads and checks a safetensors header. Pure: nothing is read but `bytes`.
 * @param bytes the start of the file, the whole header included
 * @param fileSize bytes of the whole file
 * @param file path for messages and for `TensorInfo.file`
 * @throws WeightsError that names the file, the tensor where there is one, and the reason
 */
export function parseHeader(bytes: Uint8Array, fileSize: number, file: string): Header {
  const dataStart = prefixBytes + headerLength(bytes, fileSize, file);
  if (bytes.length < dataStart) throw new WeightsError({ file, reason: "the header is incomplete" });
  if (bytes[prefixBytes] !== 0x7b)
    throw new WeightsError({ file, reason: 'the header does not start with "{"' });
  let text: string;
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    text = decoder.decode(bytes.subarray(prefixBytes, dataStart));
  } catch (cause) {
    throw new WeightsError({ file, reason: "the header is not valid UTF-8" }, { cause });
  }
  const reader = new HeaderReader(text, dataStart, file);
  const header = reader.read();
  checkTiling(header, fileSize, file);
  return header;
}

/** Reads the header's JSON, and keeps the name of the tensor it is at for the messages. */
class HeaderReader {
  readonly #cursor: JsonCursor;
  readonly #dataStart: number;
  readonly #file: string;
  readonly #tensors = new Map<string, TensorInfo>();
  readonly #metadata = new Map<string, string>();
  #tensor: string | undefined;

  constructor(text: string, dataStart: number, file: string) {
    this.#cursor = new JsonCursor(text);
    this.#dataStart = dataStart;
    this.#file = file;
  }

  read(): Header {
    try {
      this.#cursor.object((key) => {
        if (key === "__proto__") throw new JsonFault('"__proto__" is not accepted as a name');
        if (key === "__metadata__") this.#readMetadata();
        else this.#readTensor(key);
        this.#tensor = undefined;
      });
      this.#cursor.end();
    } catch (cause) {
      if (!(cause instanceof JsonFault)) throw cause;
      throw new WeightsError({ file: this.#file, tensor: this.#tensor, reason: cause.message }, { cause });
    }
    return { tensors: this.#tensors, metadata: this.#metadata, dataStart: this.#dataStart };
  }

  #readMetadata(): void {
    this.#cursor.object((key) => {
      if (key === "__proto__") throw new JsonFault('"__proto__" is not accepted as a name');
      this.#metadata.set(key, this.#cursor.string());
    });
  }

  #readTensor(name: string): void {
    this.#tensor = name;
    let dtype: string | undefined;
    let shape: number[] | undefined;
    let offsets: number[] | undefined;
    this.#cursor.object((key) => {
      if (key === "dtype") dtype = this.#cursor.string();
      else if (key === "shape") shape = this.#integers(maxDimensions, "dimensions");
      else if (key === "data_offsets") offsets = this.#integers(2, "data_offsets");
      else throw new JsonFault(`unknown field ${JSON.stringify(key)}`);
    });
    if (dtype === undefined || shape === undefined || offsets === undefined) {
      throw new JsonFault("dtype, shape and data_offsets are all needed");
    }
    this.#tensors.set(name, this.#checkTensor(name, dtype, shape, offsets));
  }

  #checkTensor(name: string, dtype: string, shape: number[], offsets: number[]): TensorInfo {
    if (!isTensorDtype(dtype)) {
      throw new JsonFault(`dtype ${JSON.stringify(dtype)} is not supported (F32, F16, BF16, I32 and U8 are)`);
    }
    const [begin, end] = offsets;
    if (begin === undefined || end === undefined || end < begin) {
      throw new JsonFault(`data_offsets [${offsets}] are not a begin and an end`);
    }
    const bytes = tensorBytes(dtype, shape);
    if (bytes === null) throw new JsonFault(`the size of shape [${shape}] overflows`);
    if (bytes !== end - begin) {
      throw new JsonFault(
        `shape [${shape}] of ${dtype} takes ${bytes} bytes, but data_offsets span ${end - begin}`,
      );
    }
    const start = this.#dataStart;
    return { name, dtype, shape, file: this.#file, begin: start + begin, end: start + end };
  }

  #integers(most: number, what: string): number[] {
    const values: number[] = [];
    this.#cursor.array((index) => {
      if (index >= most) throw new JsonFault(`more than ${most} ${what}`);
      values.push(this.#cursor.integer());
    });
    return values;
  }
}

/** The tensors must fill the data part exactly: no overlap, no hole, nothing behind the last. */
function checkTiling(header: Header, fileSize: number, file: string): void {
  const inOrder = [...header.tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = header.dataStart;
  for (const { name, begin, end } of inOrder) {
    if (begin !== position) {
      const fault = begin < position ? "overlaps the tensor before it" : "leaves a hole before it";
      throw new WeightsError({ file, tensor: name, reason: `its data ${fault}` });
    }
    if (end > fileSize) {
      const remedy = "The file may be truncated: download it again.";
      throw new WeightsError({
        file,
        tensor: name,
        reason: "its data ends beyond the end of the file",
        remedy,
      });
    }
    position = end;
  }
  if (position !== fileSize) {
    throw new WeightsError({
      file,
      reason: `${fileSize - position} bytes after the last tensor belong to none`,
    });
  }
}

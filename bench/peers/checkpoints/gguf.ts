/** Writes GGUF version 3: magic, counts, metadata, tensor table, then the tensors, each at a multiple of 32 bytes. */
import { bytesOf, type ElementType, randomTensor } from "./elements.ts";
import { type PatientFile, writeFile } from "./file.ts";

const alignment = 32;

/** Numbers of the format. */
const valueTypes = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;
const tensorTypes = { f32: 0, gain: 0, f16: 1, q4_0: 2, q8_0: 8 } as const;
export type GgufElement = keyof typeof tensorTypes;

export type GgufValue =
  | { readonly type: "u32" | "f32"; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "i32s"; readonly value: Int32Array };

export interface GgufTensor {
  readonly name: string;
  readonly type: GgufElement;
  /** Innermost dimension first, as GGUF has it: a matrix [out, in] is [in, out] here. */
  readonly dimensions: readonly number[];
}

export const elementsOf = ({ dimensions }: Pick<GgufTensor, "dimensions">): number =>
  dimensions.reduce((product, n) => product * n, 1);

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string) => {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
};
const f32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};

function encodeValue(entry: GgufValue): Uint8Array {
  const typed = (type: keyof typeof valueTypes, ...rest: readonly Uint8Array[]) =>
    Buffer.concat([u32(valueTypes[type]), ...rest]);
  switch (entry.type) {
    case "u32":
      return typed("u32", u32(entry.value));
    case "f32":
      return typed("f32", f32(entry.value));
    case "bool":
      return typed("bool", Buffer.of(entry.value ? 1 : 0));
    case "string":
      return typed("string", text(entry.value));
    case "strings":
      return typed("array", u32(valueTypes.string), u64(entry.value.length), ...entry.value.map(text));
    case "i32s": {
      const { buffer, byteOffset, byteLength } = entry.value;
      return typed(
        "array",
        u32(valueTypes.i32),
        u64(entry.value.length),
        Buffer.from(buffer, byteOffset, byteLength),
      );
    }
  }
}

const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;

/** Everything before the tensors, unpadded. */
export function encodeHeader(
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
): Buffer {
  const parts: Uint8Array[] = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(metadata.size)];
  for (const [key, value] of metadata) parts.push(text(key), encodeValue(value));
  let offset = 0;
  for (const tensor of tensors) {
    const { name, dimensions, type } = tensor;
    parts.push(
      text(name),
      u32(dimensions.length),
      ...dimensions.map(u64),
      u32(tensorTypes[type]),
      u64(offset),
    );
    offset += aligned(bytesOf(type satisfies ElementType, elementsOf(tensor)));
  }
  return Buffer.concat(parts);
}

/** A GGUF file with random tensors. */
export function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
  signal?: AbortSignal,
): Promise<void> {
  const write = async (file: PatientFile) => {
    await file.write(encodeHeader(metadata, tensors));
    await file.align(alignment);
    for (const tensor of tensors) {
      for (const piece of randomTensor(tensor.type, elementsOf(tensor))) await file.write(piece);
      await file.align(alignment);
    }
  };
  return writeFile(path, write, signal);
}

/** Bytes of the file that `writeGguf` writes. */
export function ggufBytes(metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensor[]): number {
  const data = tensors.map((tensor) => aligned(bytesOf(tensor.type, elementsOf(tensor))));
  return data.reduce((total, bytes) => total + bytes, aligned(encodeHeader(metadata, tensors).length));
}

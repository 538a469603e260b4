/** Hand-made safetensors files, broken ones above all. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** A folder that is removed when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "dejavu-weights-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Prefix, header as given, and `dataBytes` bytes that count up. `claimed` replaces the header's true length. */
export function rawFile(header: string | Uint8Array, dataBytes = 0, claimed?: bigint): Uint8Array {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, claimed ?? BigInt(text.length), true);
  bytes.set(text, 8);
  for (let i = 0; i < dataBytes; i++) bytes[8 + text.length + i] = i;
  return bytes;
}

/** The header's text for one tensor `x`. */
export function oneTensor(dtype: string, shape: string, offsets: string): string {
  return `{"x":{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}}`;
}

/** A sound file with tensors of several dtypes, one of them empty and one a scalar. */
export function soundFile(): Uint8Array {
  const header = JSON.stringify({
    __metadata__: { format: "pt", 'quo"te': "é \n" },
    "layer.0.weight": { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
    "layer.0.bias": { dtype: "BF16", shape: [3], data_offsets: [24, 30] },
    empty: { dtype: "F16", shape: [0, 7], data_offsets: [30, 30] },
    scalar: { dtype: "I32", shape: [], data_offsets: [30, 34] },
    mask: { dtype: "U8", shape: [5], data_offsets: [34, 39] },
  });
  return rawFile(`${header}   `, 39);
}

/** Writes `bytes` as `name` into a temporary folder and returns the path. */
export async function onDisk(bytes: Uint8Array | string, name = "model.safetensors"): Promise<string> {
  const file = join(await temporaryFolder(), name);
  await writeFile(file, bytes);
  return file;
}

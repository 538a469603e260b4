/** The folder with the checkpoints: what is missing is written, once there is room for it. */
import { existsSync } from "node:fs";
import { mkdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { EngineName, PeerName } from "../engines/job.ts";
import type { Format } from "../formats.ts";
import type { Shape } from "../shapes.ts";
import { gpt2BytesPerToken, gpt2FileBytes, writeGpt2 } from "./gpt2.ts";
import { modelFile, planOpt, writeOpt } from "./opt-onnx.ts";

/** Raise it when a writer changes what it writes. */
const layout = "v1";

export interface Stored {
  readonly engine: EngineName;
  readonly format: Format;
  /** What the engine is told to open. */
  readonly path: string;
  /** It exists when the checkpoint is whole. */
  readonly proof: string;
  readonly fileBytes: number;
  write(signal: AbortSignal): Promise<void>;
}

/** Of a peer. */
export interface Checkpoint extends Stored {
  readonly engine: PeerName;
  /** Bytes of weights that one token reads. */
  readonly bytesPerToken: number;
}

const folderOf = (cache: string, shape: Shape): string => join(cache, layout, shape.name);

/** dejavu writes it itself; it is about as large as llama.cpp's. */
export function ownWeights(
  cache: string,
  shape: Shape,
  format: Format,
  write: (path: string, signal: AbortSignal) => Promise<void>,
): Stored {
  const path = join(folderOf(cache, shape), `dejavu-${format}`);
  const fileBytes = gpt2FileBytes(shape, format);
  return { engine: "dejavu", format, path, proof: path, fileBytes, write: (signal) => write(path, signal) };
}

export function checkpointOf(cache: string, shape: Shape, engine: PeerName, format: Format): Checkpoint {
  const folder = folderOf(cache, shape);
  if (engine === "node-llama-cpp") {
    const path = join(folder, `${format}.gguf`);
    const [fileBytes, bytesPerToken] = [gpt2FileBytes(shape, format), gpt2BytesPerToken(shape, format)];
    const write = (signal: AbortSignal) => writeGpt2(path, shape, format, signal);
    return { engine, format, path, proof: path, fileBytes, bytesPerToken, write };
  }
  const path = join(folder, "onnx-model");
  const { fileBytes, bytesPerToken } = planOpt(shape, format);
  const write = (signal: AbortSignal) => writeOpt(path, shape, format, signal);
  return { engine, format, path, proof: modelFile(path, format), fileBytes, bytesPerToken, write };
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;

/** Throws before anything is written when the checkpoints that are missing do not fit on the disk. */
export async function writeMissing(
  cache: string,
  checkpoints: readonly Stored[],
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const missing = checkpoints.filter(({ proof }) => !existsSync(proof));
  if (missing.length === 0) return;
  await mkdir(cache, { recursive: true });
  const { bavail, bsize } = await statfs(cache);
  const need = missing.reduce((total, { fileBytes }) => total + fileBytes, 0);
  const free = bavail * bsize;
  say(
    `${missing.length} checkpoints need ${gigabytes(need)} of disk in ${cache}, which has ${gigabytes(free)} free`,
  );
  if (need > free)
    throw new Error(
      `${cache} has ${gigabytes(free)} free, ${gigabytes(need)} are needed: make room or name another --cache`,
    );
  for (const { engine, format, fileBytes, write } of missing) {
    say(`writing ${format} for ${engine}, ${gigabytes(fileBytes)}`);
    await write(signal);
  }
}

/**
 * What tells weights from others without reading all of them: at the size of real models that would take as long as
 * loading. Every header counts, with it names, shapes and dtypes, every file's size, and a sample of the data.
 * Weights that differ only between the sampled places have the same fingerprint: it notices the wrong model and another
 * training run, in which all weights move, not an attack.
 */
import { createHash } from "node:crypto";
import type { Shard } from "./shard.ts";

/** Pieces of the sample, spread evenly over all data; together 1 MiB. */
const pieces = 256;
const pieceBytes = 4096;

/** SHA-256, in hexadecimal, over sizes, headers and sample. */
export async function fingerprintOf(shards: readonly Shard[]): Promise<string> {
  const hash = createHash("sha256");
  for (const shard of shards) {
    const header = new Uint8Array(shard.header.dataStart);
    await shard.readFile(header, 0);
    hash.update(`${shard.size} ${header.length} `).update(header);
  }
  const dataBytes = shards.map(({ size, header }) => size - header.dataStart);
  const total = dataBytes.reduce((sum, bytes) => sum + bytes, 0);
  for (const position of samplePlaces(total)) {
    const piece = new Uint8Array(Math.min(pieceBytes, total - position));
    await readAcross(shards, piece, position);
    hash.update(piece);
  }
  return hash.digest("hex");
}

/** Where the pieces start; where all of the data is no larger than the sample, they cover it. */
function samplePlaces(total: number): number[] {
  if (total <= pieces * pieceBytes)
    return Array.from({ length: Math.ceil(total / pieceBytes) }, (_, i) => i * pieceBytes);
  return Array.from({ length: pieces }, (_, i) => Math.floor((i * (total - pieceBytes)) / (pieces - 1)));
}

/** Fills `into` from `position` of the files' data on, as if it were one. */
async function readAcross(shards: readonly Shard[], into: Uint8Array, position: number): Promise<void> {
  let [at, done] = [position, 0];
  for (const shard of shards) {
    const { dataStart } = shard.header;
    const bytes = shard.size - dataStart;
    const wanted = Math.min(into.length - done, bytes - at);
    if (wanted > 0) {
      await shard.readFile(into.subarray(done, done + wanted), dataStart + at);
      done += wanted;
      at += wanted;
    }
    at -= bytes;
  }
}

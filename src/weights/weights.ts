/** Named, checked tensors from safetensors files: one file, or several with an index. */
import { access } from "node:fs/promises";
import { join } from "node:path";
import { WeightsError } from "../util/errors.ts";
import { fingerprintOf } from "./fingerprint.ts";
import type { TensorInfo } from "./layout.ts";
import type { Prepared } from "./prepared.ts";
import { Shard } from "./shard.ts";
import { readShardIndex } from "./shard-index.ts";

const singleName = "model.safetensors";
const indexName = "model.safetensors.index.json";
const pickleNames = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

export interface Weights {
  /** Paths of the files that hold the tensors, in the order of their names. */
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The files' `__metadata__`; where files differ, the first one's. */
  readonly metadata: ReadonlyMap<string, string>;
  /**
   * Fills `into` with `into.length` bytes of the tensor, from `byteOffset` within it on. Bytes are little-endian.
   * @throws WeightsError if there is no such tensor, the range exceeds it, or the file changed or cannot be read
   */
  read(name: string, into: Uint8Array, byteOffset?: number): Promise<void>;
  /** What `dejavu quantize` says of the weights that it wrote; null for others. */
  readonly prepared: Prepared | null;
  /** Tells these weights from others, without reading all of them; see fingerprint.ts. In hexadecimal. */
  fingerprint(): Promise<string>;
  /** Gives the files back; no reading afterwards. A second call does nothing. */
  close(): Promise<void>;
}

/**
 * Opens the weights of a model: `model.safetensors`, else the files that `model.safetensors.index.json` names.
 * @throws WeightsError if neither is there, or something in them is broken
 */
export async function openWeights(folder: string): Promise<Weights> {
  const single = join(folder, singleName);
  if (await exists(single)) return openSafetensors(single);
  const index = join(folder, indexName);
  if (await exists(index)) return openSharded(folder, index);
  const reason = `neither ${singleName} nor ${indexName} is there`;
  for (const name of pickleNames) {
    if (!(await exists(join(folder, name)))) continue;
    const remedy = `${name} is, but weights are read from safetensors only: convert it, or download that revision.`;
    throw new WeightsError({ file: folder, reason, remedy });
  }
  throw new WeightsError({ file: folder, reason, remedy: "Is this the folder of a model?" });
}

/**
 * Opens one safetensors file.
 * @throws WeightsError if it cannot be read or is broken
 */
export async function openSafetensors(file: string): Promise<Weights> {
  return new OpenWeights([await Shard.open(file)]);
}

async function openSharded(folder: string, index: string): Promise<Weights> {
  const shardOf = await readShardIndex(index);
  const names = [...new Set(shardOf.values())].sort();
  const shards: Shard[] = [];
  try {
    for (const name of names) shards.push(await Shard.open(join(folder, name)));
    checkAgainstIndex(index, shardOf, new Map(names.map((name, i) => [name, shards[i]!])));
    return new OpenWeights(shards);
  } catch (cause) {
    await Promise.allSettled(shards.map((shard) => shard.close()));
    throw cause;
  }
}

/** Every tensor must be in the shard that the index says, and in no other. */
function checkAgainstIndex(
  index: string,
  shardOf: ReadonlyMap<string, string>,
  shards: ReadonlyMap<string, Shard>,
): void {
  for (const [tensor, name] of shardOf) {
    if (shards.get(name)!.header.tensors.has(tensor)) continue;
    throw new WeightsError({
      file: index,
      tensor,
      reason: `it is not in ${name}, where the index says it is`,
    });
  }
  for (const [name, shard] of shards) {
    for (const tensor of shard.header.tensors.keys()) {
      const told = shardOf.get(tensor);
      if (told === name) continue;
      const where = told === undefined ? "but the index does not name it" : `but the index says ${told}`;
      throw new WeightsError({ file: index, tensor, reason: `it is in ${name}, ${where}` });
    }
  }
}

class OpenWeights implements Weights {
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  readonly prepared: Prepared | null;
  readonly #shards: ReadonlyMap<string, Shard>;
  #closed = false;

  constructor(shards: readonly Shard[]) {
    this.#shards = new Map(shards.map((shard) => [shard.file, shard]));
    this.files = [...this.#shards.keys()];
    this.tensors = new Map(shards.flatMap((shard) => [...shard.header.tensors]));
    this.prepared = commonPreparation(shards);
    this.metadata = new Map(shards.toReversed().flatMap((shard) => [...shard.header.metadata]));
  }

  async read(name: string, into: Uint8Array, byteOffset = 0): Promise<void> {
    this.#checkOpen();
    const tensor = this.tensors.get(name);
    if (tensor === undefined) {
      throw new WeightsError({
        file: this.files.join(", "),
        tensor: name,
        reason: "there is no such tensor",
      });
    }
    const bytes = tensor.end - tensor.begin;
    if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset + into.length > bytes) {
      const reason = `${into.length} bytes from ${byteOffset} on exceed its ${bytes} bytes`;
      throw new WeightsError({ file: tensor.file, tensor: name, reason });
    }
    await this.#shards.get(tensor.file)!.read(tensor, into, byteOffset);
  }

  async fingerprint(): Promise<string> {
    this.#checkOpen();
    return fingerprintOf([...this.#shards.values()]);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.all([...this.#shards.values()].map((shard) => shard.close()));
  }

  #checkOpen(): void {
    if (this.#closed)
      throw new WeightsError({ file: this.files.join(", "), reason: "the weights are closed" });
  }
}

/** What all shards say alike of how they were prepared. */
function commonPreparation(shards: readonly Shard[]): Prepared | null {
  const first = shards[0]!.header.prepared;
  const same = ({ header: { prepared } }: Shard) =>
    prepared?.dtype === first?.dtype && prepared?.source === first?.source;
  const other = shards.find((shard) => !same(shard));
  if (other === undefined) return first;
  const reason = `it was not prepared together with ${shards[0]!.file}`;
  throw new WeightsError({ file: other.file, reason, remedy: "Make the weights anew with: dejavu quantize" });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

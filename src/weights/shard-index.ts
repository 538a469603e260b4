/** `model.safetensors.index.json`: which tensor is in which of several files. */
import { readFile, stat } from "node:fs/promises";
import { WeightsError } from "../util/errors.ts";
import { JsonCursor, JsonFault } from "./json-cursor.ts";
import { maxHeaderBytes } from "./layout.ts";
import { systemReason } from "./shard.ts";

const maxShards = 10_000;

/** Names that are a device, or another file than they seem, on some system. */
const reservedName = /^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)|[ .]$/i;
const forbiddenCharacter = /[/\\:*?"<>|\p{Cc}]/u;

/**
 * Parses the text of an index.
 * @returns the shard's file name for each tensor
 * @throws WeightsError if the text is broken or a name is not that of a file in the same folder
 */
export function parseShardIndex(text: string, file: string): ReadonlyMap<string, string> {
  const shardOf = new Map<string, string>();
  const shards = new Set<string>();
  let found = false;
  const cursor = new JsonCursor(text);
  try {
    cursor.object((key) => {
      if (key !== "weight_map") return cursor.skip();
      found = true;
      cursor.object((tensor) => {
        const shard = cursor.string();
        checkShardName(shard);
        shards.add(shard);
        if (shards.size > maxShards) throw new JsonFault(`more than ${maxShards} shards`);
        shardOf.set(tensor, shard);
      });
    });
    cursor.end();
    if (!found) throw new JsonFault("there is no weight_map");
  } catch (cause) {
    if (!(cause instanceof JsonFault)) throw cause;
    throw new WeightsError({ file, reason: cause.message }, { cause });
  }
  return shardOf;
}

/** The only check of a file name that comes from a file: one plain name, valid on every system. */
function checkShardName(name: string): void {
  const plain =
    name.length > 0 && name.length <= 255 && !forbiddenCharacter.test(name) && !reservedName.test(name);
  if (!plain) throw new JsonFault(`${JSON.stringify(name.slice(0, 80))} is not the plain name of a file`);
}

/** Reads and parses the index at `file`. Throws a WeightsError. */
export async function readShardIndex(file: string): Promise<ReadonlyMap<string, string>> {
  let bytes: Uint8Array;
  try {
    const status = await stat(file);
    if (!status.isFile()) throw new Error("this is not a file");
    if (status.size > maxHeaderBytes)
      throw new Error(`${status.size} bytes exceed the limit of ${maxHeaderBytes}`);
    bytes = await readFile(file);
  } catch (cause) {
    throw new WeightsError({ file, reason: systemReason(cause) }, { cause });
  }
  try {
    return parseShardIndex(new TextDecoder("utf-8", { fatal: true }).decode(bytes), file);
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new WeightsError({ file, reason: "the index is not valid UTF-8" }, { cause });
  }
}

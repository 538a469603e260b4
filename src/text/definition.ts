/** What a byte-level BPE tokenizer consists of, checked so that encoding and decoding need no further checks. */
import { TokenizerError } from "../util/errors.ts";
import { byteCharacters, spelledBytes } from "./byte-level.ts";

const mostTokens = 2_000_000;

export type Merge = readonly [left: string, right: string];

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/** The parts as they stand in the files. */
export interface Parts {
  readonly vocabulary: Readonly<Record<string, unknown>>;
  readonly merges: readonly Merge[];
  readonly addedTokens: readonly AddedToken[];
  readonly addPrefixSpace: boolean;
  readonly ignoreMerges: boolean;
}

export interface Definition {
  /** The token of each id, without holes. */
  readonly tokens: readonly string[];
  /** The id of each token. */
  readonly idOf: ReadonlyMap<string, number>;
  /** The bytes that each id adds to a text. */
  readonly bytes: readonly Uint8Array[];
  readonly merges: readonly Merge[];
  readonly addedTokens: readonly AddedToken[];
  readonly specialIds: ReadonlySet<number>;
  readonly addPrefixSpace: boolean;
  readonly ignoreMerges: boolean;
}

/**
 * Checks the parts against each other.
 * @param file the file to name in messages
 * @throws TokenizerError
 */
export function checkDefinition(parts: Parts, file: string): Definition {
  const idOf = new Map<string, number>();
  for (const [token, id] of Object.entries(parts.vocabulary)) {
    if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0) {
      throw new TokenizerError(file, `the id of ${quote(token)} is ${quote(id)}, not an integer from 0 on`);
    }
    idOf.set(token, id);
  }
  for (const { content, id } of parts.addedTokens) {
    const known = idOf.get(content) ?? id;
    if (known !== id) throw new TokenizerError(file, `${quote(content)} has two ids, ${known} and ${id}`);
    idOf.set(content, id);
  }
  const tokens = listById(idOf, file);
  const added = new Map(parts.addedTokens.map((token) => [token.content, token]));
  const special = parts.addedTokens.filter((token) => token.special);
  checkBytes(idOf, added, file);
  checkMerges(parts.merges, idOf, added, file);
  return {
    tokens,
    idOf,
    bytes: tokens.map((token) => bytesOf(token, added.has(token))),
    merges: parts.merges,
    addedTokens: [...added.values()],
    specialIds: new Set(special.map(({ id }) => id)),
    addPrefixSpace: parts.addPrefixSpace,
    ignoreMerges: parts.ignoreMerges,
  };
}

export function quote(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 80);
}

function listById(idOf: ReadonlyMap<string, number>, file: string): string[] {
  if (idOf.size > mostTokens) throw new TokenizerError(file, `more than ${mostTokens} tokens`);
  const tokens: (string | undefined)[] = new Array(idOf.size).fill(undefined);
  for (const [token, id] of idOf) {
    if (id >= tokens.length) {
      throw new TokenizerError(
        file,
        `${quote(token)} has id ${id}, but there are only ${tokens.length} tokens`,
      );
    }
    if (tokens[id] !== undefined) {
      throw new TokenizerError(file, `${quote(token)} and ${quote(tokens[id])} share the id ${id}`);
    }
    tokens[id] = token;
  }
  return tokens as string[]; // as many ids as places, none above, none twice: no hole
}

/** With a token for every byte, any text can be encoded and nothing is ever unknown. */
function checkBytes(
  idOf: ReadonlyMap<string, number>,
  added: ReadonlyMap<string, AddedToken>,
  file: string,
): void {
  const missing = byteCharacters.findIndex((char) => !idOf.has(char) || added.has(char));
  if (missing < 0) return;
  const byte = `0x${missing.toString(16).padStart(2, "0")}`;
  throw new TokenizerError(file, `there is no token for byte ${byte}`, "Only byte-level BPE is supported.");
}

/** Merges must stay within the vocabulary, and must not turn a user's text into an added token. */
function checkMerges(
  merges: readonly Merge[],
  idOf: ReadonlyMap<string, number>,
  added: ReadonlyMap<string, AddedToken>,
  file: string,
): void {
  for (const [rank, [left, right]] of merges.entries()) {
    const where = `merge ${rank}, ${quote(left)} with ${quote(right)}`;
    for (const token of [left, right, left + right]) {
      if (!idOf.has(token))
        throw new TokenizerError(file, `${where}: ${quote(token)} is not in the vocabulary`);
      if (added.has(token)) throw new TokenizerError(file, `${where}: ${quote(token)} is an added token`);
    }
    if (left === "" || right === "") throw new TokenizerError(file, `${where}: a side is empty`);
  }
}

/** Added tokens stand for themselves; so does an entry that is not spelled in byte characters. */
function bytesOf(token: string, isAdded: boolean): Uint8Array {
  return (isAdded ? null : spelledBytes(token)) ?? new TextEncoder().encode(token);
}

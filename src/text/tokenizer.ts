/** Text ↔ ids, for byte-level BPE tokenizers such as those of GPT-2 and OPT. */
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { ContextOverflowError, TokenizerError } from "../util/errors.ts";
import { checkDefinition, type Definition, quote } from "./definition.ts";
import {
  type ConfiguredIds,
  readConfiguredIds,
  readParts,
  readSpecialNames,
  type SpecialNames,
} from "./files.ts";
import { StreamDecoder } from "./stream-decoder.ts";
import { WordMerger } from "./word-merger.ts";

/** Words above this many bytes, which the library would not cache either, go to our own merger. */
const longWord = 256;

export interface EncodeOptions {
  /** Puts the token that starts a text in front, as OPT expects. Default true. */
  readonly addBos?: boolean | undefined;
  /** Is `</s>` in the text four characters (`text`, the default) or the special token (`interpret`)? */
  readonly specialTokens?: "text" | "interpret" | undefined;
  /** Most ids that may come out. A text that is certainly longer is refused before any work on it. */
  readonly maxTokens?: number | undefined;
}

export interface DecodeOptions {
  /** Leaves special tokens out. Default true. */
  readonly skipSpecial?: boolean | undefined;
}

export interface Tokenizer {
  /** Ids go from 0 to this − 1. A model may have more, which stand for no text. */
  readonly vocabSize: number;
  readonly bosId: number;
  readonly eosId: number;
  /** Bytes of the longest token: n ids never make more than n times as many bytes. */
  readonly maxTokenBytes: number;
  /**
   * The ids of a text. Lone surrogates count as U+FFFD.
   * @throws ContextOverflowError if there are more than `maxTokens`
   */
  encode(text: string, options?: EncodeOptions): number[];
  /** The text of ids. Bytes that are no UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /**
   * The bytes that an id adds to a text; for a special token, its name's. None for ids from `vocabSize` on.
   * @throws RangeError if it is not an integer from 0 on
   */
  idBytes(id: number): Uint8Array;
  /** A decoder that gives, piece by piece, what `decode` gives at once. */
  stream(options?: DecodeOptions): StreamDecoder;
}

/**
 * Opens the tokenizer of a model: tokenizer.json, else vocab.json and merges.txt.
 * @throws TokenizerError if they are not there, contradict each other, or are of another kind than byte-level BPE
 */
export async function openTokenizer(folder: string): Promise<Tokenizer> {
  const names = await readSpecialNames(folder);
  const configured = await readConfiguredIds(folder);
  const { parts, file } = await readParts(folder, names);
  const definition = checkDefinition(parts, file);
  const size = definition.tokens.length;
  if (configured.vocabSize !== undefined && size > configured.vocabSize) {
    throw new TokenizerError(
      file,
      `${size} tokens, but ${configured.file} has a vocab_size of ${configured.vocabSize}`,
    );
  }
  const bosId = specialId("bos", names, configured, definition, folder);
  const eosId = specialId("eos", names, configured, definition, folder);
  return new ByteLevelTokenizer(definition, bosId, eosId);
}

/** The id on which all files that name the token agree. */
function specialId(
  kind: "bos" | "eos",
  names: readonly SpecialNames[],
  configured: ConfiguredIds,
  { idOf, tokens }: Definition,
  folder: string,
): number {
  const source = names.find((candidate) => candidate[kind] !== undefined);
  const allowed = [configured[kind] ?? []].flat();
  if (source === undefined) {
    const id = allowed[0];
    if (id === undefined) throw new TokenizerError(folder, `no file says what the ${kind} token is`);
    if (id >= tokens.length)
      throw new TokenizerError(configured.file, `${kind}_token_id ${id} is not in the vocabulary`);
    return id;
  }
  const name = source[kind]!;
  const id = idOf.get(name);
  if (id === undefined)
    throw new TokenizerError(source.file, `${kind}_token ${quote(name)} is not in the vocabulary`);
  if (allowed.length > 0 && !allowed.includes(id)) {
    const reason = `${kind}_token ${quote(name)} has id ${id}, but ${configured.file} says ${allowed}`;
    throw new TokenizerError(source.file, reason);
  }
  return id;
}

class ByteLevelTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number;
  readonly eosId: number;
  readonly maxTokenBytes: number;
  readonly #definition: Definition;
  readonly #plain: LibraryTokenizer;
  #interpreting: LibraryTokenizer | undefined;

  constructor(definition: Definition, bosId: number, eosId: number) {
    this.#definition = definition;
    this.bosId = bosId;
    this.eosId = eosId;
    this.vocabSize = definition.tokens.length;
    this.maxTokenBytes = definition.bytes.reduce((most, { length }) => Math.max(most, length), 1);
    this.#plain = buildLibraryTokenizer(definition, false);
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    const { addBos = true, specialTokens = "text", maxTokens = Number.POSITIVE_INFINITY } = options;
    const start = addBos ? [this.bosId] : [];
    const overflow = { maxTokens: 0, limit: maxTokens };
    const least = start.length + Math.ceil(Buffer.byteLength(text) / this.maxTokenBytes);
    if (least > maxTokens)
      throw new ContextOverflowError({ promptTokens: least, ...overflow, atLeast: true });
    const { ids } = this.#libraryTokenizer(specialTokens).encode(text, { add_special_tokens: false });
    const all = start.concat(ids);
    if (all.length > maxTokens) throw new ContextOverflowError({ promptTokens: all.length, ...overflow });
    return all;
  }

  decode(ids: Iterable<number>, options?: DecodeOptions): string {
    const bytesOf = this.#bytesOf(options);
    const bytes = Buffer.concat(Array.from(ids, bytesOf));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }

  idBytes(id: number): Uint8Array {
    if (!Number.isSafeInteger(id) || id < 0) throw new RangeError(`${id} is not the id of a token`);
    return this.#definition.bytes[id] ?? nothing;
  }

  stream(options?: DecodeOptions): StreamDecoder {
    return new StreamDecoder(this.#bytesOf(options));
  }

  #bytesOf({ skipSpecial = true }: DecodeOptions = {}): (id: number) => Uint8Array {
    const { specialIds } = this.#definition;
    return (id) => (skipSpecial && specialIds.has(id) ? nothing : this.idBytes(id));
  }

  #libraryTokenizer(specialTokens: "text" | "interpret"): LibraryTokenizer {
    if (specialTokens === "text") return this.#plain;
    this.#interpreting ??= buildLibraryTokenizer(this.#definition, true);
    return this.#interpreting;
  }
}

const nothing = new Uint8Array(0);

/** The parts of the library in use. Its own types do not resolve in a module. */
interface LibraryTokenizer {
  readonly model: { bpe(word: string): string[] };
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}

/** Without `interpret` the library does not know the special tokens at all, and so can never produce one. */
function buildLibraryTokenizer(definition: Definition, interpret: boolean): LibraryTokenizer {
  const { tokens, idOf, merges, addedTokens, specialIds, addPrefixSpace, ignoreMerges } = definition;
  const vocabulary = [...idOf].filter(([, id]) => interpret || !specialIds.has(id));
  const library: LibraryTokenizer = new Library(
    {
      normalizer: null,
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: addPrefixSpace },
      post_processor: null,
      decoder: { type: "ByteLevel" },
      added_tokens: addedTokens.filter(({ special }) => interpret || !special),
      model: { type: "BPE", vocab: Object.fromEntries(vocabulary), merges, ignore_merges: ignoreMerges },
    },
    {},
  );
  const shortWords = library.model.bpe.bind(library.model);
  let merger: WordMerger | undefined;
  library.model.bpe = (word) => {
    if (word.length <= longWord) return shortWords(word);
    merger ??= new WordMerger(tokens, idOf, merges);
    return merger.merge(word);
  };
  return library;
}

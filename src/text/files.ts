/** The files of a tokenizer: tokenizer.json, or vocab.json with merges.txt, and those that name the special tokens. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { TokenizerError } from "../util/errors.ts";
import { type AddedToken, type Merge, type Parts, quote } from "./definition.ts";

const mostBytes = 100_000_000;

const off = z.literal([false, null, ""]).optional();
const plainObject = z.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "expected an object",
);

/** Only what is the same in every byte-level BPE. Patterns from files are not run: they may take for ever. */
const tokenizerSchema = z.object({
  normalizer: z.null().optional(),
  pre_tokenizer: z.object({
    type: z.literal("ByteLevel"),
    add_prefix_space: z.boolean().default(true),
    use_regex: z.literal(true).optional(),
  }),
  decoder: z.object({ type: z.literal("ByteLevel") }),
  added_tokens: z
    .array(
      z.object({
        id: z.int().nonnegative(),
        content: z.string().min(1),
        special: z.boolean().default(false),
        lstrip: off,
        rstrip: off,
        single_word: off,
      }),
    )
    .max(100_000)
    .default([]),
  model: z.object({
    type: z.literal("BPE").optional(),
    vocab: plainObject,
    merges: z.array(z.unknown()),
    ignore_merges: z.boolean().default(false),
    byte_fallback: off,
    continuing_subword_prefix: off,
    end_of_word_suffix: off,
    dropout: z.literal([0, null]).optional(),
  }),
});

const named = z
  .union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)])
  .nullish();
const namesSchema = z.object({
  bos_token: named,
  eos_token: named,
  unk_token: named,
  pad_token: named,
  additional_special_tokens: z.array(named).nullish(),
});
const idsSchema = z.object({
  bos_token_id: z.int().nonnegative().nullish(),
  eos_token_id: z.union([z.int().nonnegative(), z.array(z.int().nonnegative())]).nullish(),
  vocab_size: z.int().positive().optional(),
});

/** How the special tokens are called in one file. */
export interface SpecialNames {
  readonly file: string;
  readonly bos: string | undefined;
  readonly eos: string | undefined;
  readonly all: readonly string[];
}

/** What config.json says of ids. */
export interface ConfiguredIds {
  readonly file: string;
  readonly bos: number | undefined;
  readonly eos: readonly number[];
  readonly vocabSize: number | undefined;
}

/** Reads tokenizer.json, else vocab.json and merges.txt. Throws a TokenizerError. */
export async function readParts(
  folder: string,
  names: readonly SpecialNames[],
): Promise<{ parts: Parts; file: string }> {
  const whole = join(folder, "tokenizer.json");
  const definition = await readJson(whole, tokenizerSchema);
  if (definition !== null) {
    const { model, added_tokens, pre_tokenizer } = definition;
    const parts: Parts = {
      vocabulary: model.vocab,
      merges: model.merges.map((merge, rank) => splitMerge(merge, `merge ${rank}`, whole)),
      addedTokens: added_tokens,
      addPrefixSpace: pre_tokenizer.add_prefix_space,
      ignoreMerges: model.ignore_merges,
    };
    return { parts, file: whole };
  }
  const file = join(folder, "vocab.json");
  const vocabulary = await readJson(file, plainObject);
  const mergesFile = join(folder, "merges.txt");
  const merges = await readText(mergesFile);
  if (vocabulary === null || merges === null) {
    const reason = "neither tokenizer.json nor vocab.json with merges.txt is there";
    throw new TokenizerError(folder, reason, "Is this the folder of a model?");
  }
  const addedTokens = namedTokens(vocabulary, names);
  const parts = { vocabulary, merges: parseMerges(merges, mergesFile), addedTokens };
  return { parts: { ...parts, addPrefixSpace: false, ignoreMerges: false }, file };
}

/** Reads tokenizer_config.json and special_tokens_map.json, those that are there. Throws a TokenizerError. */
export async function readSpecialNames(folder: string): Promise<SpecialNames[]> {
  const files = ["tokenizer_config.json", "special_tokens_map.json"].map((name) => join(folder, name));
  const found: SpecialNames[] = [];
  for (const file of files) {
    const names = await readJson(file, namesSchema);
    if (names === null) continue;
    const { bos_token: bos, eos_token: eos, unk_token, pad_token, additional_special_tokens } = names;
    const all = [bos, eos, unk_token, pad_token, ...(additional_special_tokens ?? [])];
    found.push({
      file,
      bos: bos ?? undefined,
      eos: eos ?? undefined,
      all: all.filter((name) => name != null),
    });
  }
  return found;
}

/** Reads config.json if it is there. Throws a TokenizerError. */
export async function readConfiguredIds(folder: string): Promise<ConfiguredIds> {
  const file = join(folder, "config.json");
  const ids = await readJson(file, idsSchema);
  const eos = ids?.eos_token_id ?? [];
  return { file, bos: ids?.bos_token_id ?? undefined, eos: [eos].flat(), vocabSize: ids?.vocab_size };
}

/** A vocab.json does not say which of its tokens are special; the names do. */
function namedTokens(vocabulary: Record<string, unknown>, names: readonly SpecialNames[]): AddedToken[] {
  const all = new Set(names.flatMap((source) => source.all));
  return [...all]
    .filter((content) => Object.hasOwn(vocabulary, content))
    .map((content) => ({ content, id: vocabulary[content] as number, special: true }));
}

function parseMerges(text: string, file: string): Merge[] {
  const lines = text.split(/\r?\n/);
  if (lines[0]?.startsWith("#version")) lines[0] = "";
  return lines.flatMap((line, i) => (line === "" ? [] : [splitMerge(line, `line ${i + 1}`, file)]));
}

/** A merge is "left right" or ["left", "right"]. */
function splitMerge(merge: unknown, where: string, file: string): Merge {
  const sides: unknown = typeof merge === "string" ? merge.split(" ") : merge;
  if (Array.isArray(sides) && sides.length === 2) {
    const [left, right] = sides as [unknown, unknown];
    if (typeof left === "string" && typeof right === "string") return [left, right];
  }
  throw new TokenizerError(file, `${where}: ${quote(merge)} is not a pair of tokens`);
}

async function readJson<S extends z.ZodType>(file: string, schema: S): Promise<z.output<S> | null> {
  const text = await readText(file);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TokenizerError(file, `this is not JSON: ${(cause as Error).message}`, undefined, { cause });
  }
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  const { path, message } = checked.error.issues[0]!;
  const where = path.length > 0 ? `${path.join(".")}: ` : "";
  throw new TokenizerError(file, `${where}${message}`, "Only byte-level BPE is supported.");
}

/** The file's text, or null if there is no such file. */
async function readText(file: string): Promise<string | null> {
  try {
    const status = await stat(file);
    if (!status.isFile()) throw new Error("this is not a file");
    if (status.size > mostBytes) throw new Error(`${status.size} bytes exceed the limit of ${mostBytes}`);
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(file));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new TokenizerError(file, (cause as Error).message, undefined, { cause });
  }
}

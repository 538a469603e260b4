/** A tokenizer small enough to read: 256 bytes, four merges, three special tokens. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { byteCharacters } from "../../src/text/byte-level.ts";

export const tinyMerges = ["a b", "ab a", "b b", "Ġ ab"];

export function tinyVocabulary(): Record<string, number> {
  const tokens = ["<pad>", "</s>", "<unk>", ...byteCharacters, "ab", "aba", "bb", "Ġab"];
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

export const tinyNames = {
  bos_token: "</s>",
  eos_token: { content: "</s>", lstrip: false },
  pad_token: "<pad>",
};

/** Files as `vocab.json` with `merges.txt` have them; any can be replaced, or left out with `null`. */
export function tinyFiles(replaced: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    "vocab.json": tinyVocabulary(),
    "merges.txt": `#version: 0.2\n${tinyMerges.join("\n")}\n`,
    "tokenizer_config.json": tinyNames,
    "config.json": { bos_token_id: 1, eos_token_id: 1, vocab_size: 270 },
    ...replaced,
  };
}

/** The same tokenizer as a tokenizer.json. */
export function tinyTokenizerJson(): Record<string, unknown> {
  const ids: Record<string, number> = tinyVocabulary();
  return {
    version: "1.0",
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: { type: "TemplateProcessing" },
    decoder: { type: "ByteLevel", add_prefix_space: true },
    added_tokens: ["</s>", "<pad>"].map((content) => ({
      id: ids[content],
      content,
      special: true,
      lstrip: false,
      rstrip: false,
      single_word: false,
      normalized: false,
    })),
    model: { type: "BPE", dropout: null, byte_fallback: false, vocab: ids, merges: tinyMerges },
  };
}

/** Writes the files, objects as JSON, into a folder that is removed when the test ends. */
export async function folderOf(files: Record<string, unknown>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "dejavu-text-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) {
    if (content === null) continue;
    const raw = typeof content === "string" || content instanceof Uint8Array;
    await writeFile(join(folder, name), raw ? content : JSON.stringify(content));
  }
  return folder;
}

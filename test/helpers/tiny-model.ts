/** A whole model folder of a few kilobytes, random weights and a real tokenizer, and texts for it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRng } from "../../src/sampling/rng.ts";
import type { FloatDtype } from "../../src/tensor/dtype.ts";
import { tinyFiles } from "../text/tiny.ts";
import { plain, type Tensors, type Variant, writeRandomCheckpoint } from "./random-checkpoint.ts";

export const tinyVariant: Variant = { ...plain, vocab_size: 263 };

/** Writes config, weights and tokenizer into `folder`; returns the weights as `writeRandomCheckpoint` does. */
export async function writeTinyModel(
  folder: string,
  variant: Variant = tinyVariant,
  dtype: FloatDtype = "f16",
  seed = 1,
): Promise<Tensors> {
  const tensors = await writeRandomCheckpoint(folder, variant, dtype, seed);
  for (const [name, content] of Object.entries(tinyFiles()))
    if (name !== "config.json")
      writeFileSync(join(folder, name), typeof content === "string" ? content : JSON.stringify(content));
  return tensors;
}

/** Documents of `words` words from a small vocabulary, separated as `readCorpus` expects. */
export function randomText(documents: number, words: number, seed = 1): string {
  const rng = createRng(seed);
  const vocabulary = ["ab", "aba", "bb", "abba", "cab", "dab", "a", "ababa", "zebra", "é"];
  const document = () =>
    Array.from({ length: 1 + rng.nextInt(words) }, () => vocabulary[rng.nextInt(vocabulary.length)]).join(
      " ",
    );
  return Array.from({ length: documents }, document).join("\n<|endoftext|>\n");
}

/** Stories of a few sentences, for the bundled model. */
export function randomStories(documents: number, seed = 1): string {
  const rng = createRng(seed);
  const pick = (words: string[]) => words[rng.nextInt(words.length)]!;
  const sentence = () => {
    const name = pick(["Lily", "Tom", "The dog", "Her mom", "A big bird", "The old man"]);
    const did = pick(["saw", "liked", "wanted", "found", "played with", "was happy with"]);
    const what = pick(["a red ball", "the tree", "a small cat", "the sun", "her friend", "a cake"]);
    return `${name} ${did} ${what} ${pick(["in the park", "one day", "and smiled", "at home"])}.`;
  };
  const story = () => `Once upon a time, ${Array.from({ length: 8 }, sentence).join(" ")}`;
  return Array.from({ length: documents }, story).join("\n<|endoftext|>\n");
}

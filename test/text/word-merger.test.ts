import { Tokenizer as Library } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { byteCharacters } from "../../src/text/byte-level.ts";
import { WordMerger } from "../../src/text/word-merger.ts";

/** Random merges over three letters, in random order: each joins two tokens that are there already. */
const mergeTable = fc
  .array(fc.tuple(fc.nat(), fc.nat()), { minLength: 1, maxLength: 40, size: "max" })
  .map((choices) => {
    const known = ["a", "b", "c"];
    const merges: [string, string][] = [];
    for (const [first, second] of choices) {
      const pair: [string, string] = [known[first % known.length]!, known[second % known.length]!];
      merges.push(pair);
      if (!known.includes(pair.join(""))) known.push(pair.join(""));
    }
    return merges;
  })
  .chain((merges) => fc.shuffledSubarray(merges, { minLength: merges.length }));

describe("WordMerger", () => {
  it("gives what the library gives", () => {
    const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 100, size: "max" });
    fc.assert(
      fc.property(mergeTable, fc.array(word, { minLength: 5, maxLength: 5 }), (merges, words) => {
        const tokens = [...new Set([...byteCharacters, ...merges.map((pair) => pair.join(""))])];
        const idOf = new Map(tokens.map((token, id) => [token, id]));
        const model = { type: "BPE", vocab: Object.fromEntries(idOf), merges };
        const parts = {
          normalizer: null,
          pre_tokenizer: null,
          post_processor: null,
          decoder: null,
          added_tokens: [],
        };
        const library = new Library({ ...parts, model }, {});
        const merger = new WordMerger(tokens, idOf, merges);
        for (const word of words) expect(merger.merge(word)).toEqual(library.tokenize(word));
      }),
      { numRuns: 400 },
    );
  });
});

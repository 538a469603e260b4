import { readFileSync } from "node:fs";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { openTokenizer, type Tokenizer } from "../../src/text/index.ts";
import { ContextOverflowError } from "../../src/util/errors.ts";
import { folderOf, tinyFiles, tinyTokenizerJson } from "./tiny.ts";

interface Golden {
  readonly tokenizer: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly cases: readonly { readonly prompt: string; readonly ids: readonly number[] }[];
}
const golden: Golden = JSON.parse(readFileSync("test/golden/stories-4m.json", "utf8"));

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await openTokenizer("models/stories-4m");
});

const bare = { addBos: false } as const;
/** Any text, with characters that matter to tokenizers more often than chance has them. */
const anyText = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom(" ", "\n", "\0", "</s>", "'s", "é", "🙂", "\ufeff"),
    ),
  )
  .map((pieces) => pieces.join(""));

describe("the bundled model's tokenizer", () => {
  it("knows its size and its special tokens", () => {
    expect(tokenizer).toMatchObject({ vocabSize: 4096, bosId: 2, eosId: 2 });
  });

  it.each(golden.tokenizer)("encodes $text as the reference does", ({ text, ids }) => {
    expect(tokenizer.encode(text, bare)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  it.each(golden.cases)("puts </s> before the prompt $prompt", ({ prompt, ids }) => {
    expect(tokenizer.encode(prompt)).toEqual(ids);
  });
});

describe("encode and decode", () => {
  it("give any text back", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(tokenizer.decode(tokenizer.encode(text, bare), { skipSpecial: false })).toBe(text);
      }),
      { numRuns: 500 },
    );
  });

  it("take lone surrogates for U+FFFD", () => {
    for (const text of ["\ud800", "a\udc00b", "\udc00\ud800"]) {
      const wellFormed = text.replace(/\p{Surrogate}/gu, "\ufffd");
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(wellFormed);
    }
  });

  it("decode any ids without failing", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5000)), (ids) => {
        expect(typeof tokenizer.decode(ids)).toBe("string");
      }),
    );
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode([4096, 1e9])).toBe("");
    for (const id of [-1, 0.5, Number.NaN]) expect(() => tokenizer.decode([id])).toThrow(RangeError);
  });

  it("leave special tokens out unless told otherwise", () => {
    expect(tokenizer.decode([2, 593, 1])).toBe("Once");
    expect(tokenizer.decode([2, 593, 1], { skipSpecial: false })).toBe("</s>Once<pad>");
  });
});

describe("T7: special tokens in a text", () => {
  it("are plain characters by default", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        for (const id of tokenizer.encode(text, bare)) expect([1, 2, 3]).not.toContain(id);
      }),
    );
    expect(tokenizer.encode("a</s>b", bare)).not.toContain(2);
  });

  it("are interpreted on request", () => {
    const a = tokenizer.encode("a", bare);
    expect(tokenizer.encode("a</s>a", { addBos: false, specialTokens: "interpret" })).toEqual([
      ...a,
      2,
      ...a,
    ]);
  });
});

describe("T1, T8: long texts", () => {
  it("are refused before any work if they cannot fit", () => {
    const started = performance.now();
    const encode = (): number[] => tokenizer.encode("a".repeat(20_000_000), { maxTokens: 512 });
    expect(encode).toThrow(ContextOverflowError);
    expect(encode).toThrow(/at least \d+ tokens, but only 512 fit/);
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it("are refused after the work if they turn out not to fit", () => {
    const ids = tokenizer.encode("one two three");
    expect(tokenizer.encode("one two three", { maxTokens: ids.length })).toEqual(ids);
    const limit = ids.length - 1;
    const encode = (): number[] => tokenizer.encode("one two three", { maxTokens: limit });
    expect(encode).toThrow(expect.objectContaining({ promptTokens: ids.length, limit }));
  });

  it("of one word take seconds at most", () => {
    const text = "ab".repeat(500_000);
    const started = performance.now();
    const ids = tokenizer.encode(text, bare);
    expect(performance.now() - started).toBeLessThan(8000);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  it("never have more bytes than their tokens allow", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const ids = tokenizer.encode(text, bare);
        expect(Buffer.byteLength(text)).toBeLessThanOrEqual(ids.length * tokenizer.maxTokenBytes);
      }),
    );
  });
});

describe("a small tokenizer", () => {
  it("merges by rank, from the left", async () => {
    const tiny = await openTokenizer(await folderOf(tinyFiles()));
    const spell = (text: string): string[] =>
      tiny.encode(text, bare).map((id) => new TextDecoder().decode(tiny.idBytes(id)));
    expect(spell("ababab")).toEqual(["ab", "ab", "ab"]);
    expect(spell("abaa")).toEqual(["aba", "a"]);
    expect(spell("abbb ab")).toEqual(["ab", "bb", " ab"]);
    expect(tiny).toMatchObject({ vocabSize: 263, bosId: 1, eosId: 1, maxTokenBytes: 5 });
  });

  it("is the same from tokenizer.json", async () => {
    const merged = tinyFiles({
      "tokenizer.json": tinyTokenizerJson(),
      "vocab.json": null,
      "merges.txt": null,
    });
    const tiny = await openTokenizer(await folderOf(merged));
    const split = await openTokenizer(await folderOf(tinyFiles()));
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", "b", " ", "é", "</s>") }), (text) => {
        for (const specialTokens of ["text", "interpret"] as const) {
          expect(tiny.encode(text, { specialTokens })).toEqual(split.encode(text, { specialTokens }));
        }
      }),
    );
  });

  it("may put a space in front, if tokenizer.json says so", async () => {
    const json = tinyTokenizerJson();
    json["pre_tokenizer"] = { type: "ByteLevel", add_prefix_space: true };
    const tiny = await openTokenizer(await folderOf(tinyFiles({ "tokenizer.json": json })));
    expect(tiny.decode(tiny.encode("ab"))).toBe(" ab");
  });

  it("may take whole words from the vocabulary, if tokenizer.json says so", async () => {
    const json = tinyTokenizerJson() as { model: { ignore_merges: boolean; merges: string[] } };
    json.model.merges = [];
    const ids = async (): Promise<number[]> =>
      (await openTokenizer(await folderOf(tinyFiles({ "tokenizer.json": json })))).encode("aba", bare);
    expect(await ids()).toHaveLength(3);
    json.model.ignore_merges = true;
    expect(await ids()).toHaveLength(1);
  });
});

/** T3 and its kin: tokenizer files that are absent or contradict themselves. */
import { describe, expect, it } from "vitest";
import { openTokenizer } from "../../src/text/index.ts";
import { TokenizerError } from "../../src/util/errors.ts";
import { folderOf, tinyFiles, tinyTokenizerJson, tinyVocabulary } from "./tiny.ts";

async function expectFault(files: Record<string, unknown>, message: string | RegExp): Promise<void> {
  const folder = await folderOf(files);
  const opened = openTokenizer(folder);
  await expect(opened).rejects.toThrow(TokenizerError);
  await expect(opened).rejects.toThrow(message);
  await expect(opened).rejects.toMatchObject({
    file: expect.stringContaining(folder),
    reason: expect.any(String),
  });
}

const vocabulary = (changes: Record<string, unknown>): Record<string, unknown> =>
  tinyFiles({ "vocab.json": { ...tinyVocabulary(), ...changes } });

describe("files", () => {
  it.each([
    ["all absent", { "vocab.json": null, "merges.txt": null }, /neither tokenizer\.json nor vocab\.json/],
    ["vocab.json absent", { "vocab.json": null }, /neither tokenizer\.json/],
    ["merges.txt absent", { "merges.txt": null }, /neither tokenizer\.json/],
    ["not JSON", { "vocab.json": "{" }, /vocab\.json: this is not JSON/],
    ["not UTF-8", { "merges.txt": Uint8Array.of(0x23, 0xff) }, /merges\.txt: /],
    ["a list", { "vocab.json": [1] }, /vocab\.json: expected an object/],
    ["null", { "vocab.json": "null" }, /vocab\.json: expected an object/],
  ])("%s", async (_, files, message) => {
    await expectFault(tinyFiles(files), message);
  });
});

describe("vocabulary", () => {
  it.each([
    ["a hole", { ab: 300 }, /"ab" has id 300, but there are only 263 tokens/],
    ["an id twice", { ab: 5 }, /share the id 5/],
    ["a negative id", { ab: -1 }, /the id of "ab" is -1/],
    ["a fractional id", { ab: 1.5 }, /the id of "ab" is 1\.5/],
    ["an id that is no number", { ab: "7" }, /the id of "ab" is "7"/],
    ["an id of billions", { ab: 4e9 }, /only 263 tokens/],
  ])("with %s", async (_, changes, message) => {
    await expectFault(vocabulary(changes), message);
  });

  it("without a token for some byte", async () => {
    const { a: id, ...others } = tinyVocabulary();
    await expectFault(tinyFiles({ "vocab.json": { ...others, "<a>": id } }), /no token for byte 0x61/);
  });

  it("larger than the model's", async () => {
    await expectFault(
      tinyFiles({ "config.json": { vocab_size: 100 } }),
      /263 tokens, but .*vocab_size of 100/,
    );
  });

  it("may hold any name", async () => {
    const files = tinyFiles();
    const text = JSON.stringify(files["vocab.json"]).replace(/}$/, ',"__proto__":263,"constructor":264}');
    const tokenizer = await openTokenizer(await folderOf({ ...files, "vocab.json": text }));
    expect(tokenizer.vocabSize).toBe(265);
    expect(tokenizer.decode(tokenizer.encode("__proto__ constructor"))).toBe("__proto__ constructor");
  });
});

describe("merges", () => {
  it.each([
    ["of an unknown token", "a q", /"aq" is not in the vocabulary/],
    ["of an unknown left side", "xyz b", /"xyz" is not in the vocabulary/],
    ["of one token", "ab", /line 2: "ab" is not a pair/],
    ["of three tokens", "a b a", /is not a pair/],
    ["with an empty side", " ab", /"" is not in the vocabulary/],
    ["that make a special token", "< /s>", /"<\/s>" is an added token|not in the vocabulary/],
  ])("%s", async (_, line, message) => {
    await expectFault(tinyFiles({ "merges.txt": `#version: 0.2\n${line}\n` }), message);
  });

  it("may be pairs in tokenizer.json, and must be pairs of strings", async () => {
    const json = tinyTokenizerJson() as { model: { merges: unknown[] } };
    json.model.merges = [["a", "b"]];
    const tokenizer = await openTokenizer(await folderOf(tinyFiles({ "tokenizer.json": json })));
    expect(tokenizer.encode("ab", { addBos: false })).toHaveLength(1);
    for (const bad of [7, null, ["a"], ["a", 7], {}]) {
      json.model.merges = [bad];
      await expectFault(tinyFiles({ "tokenizer.json": json }), /merge 0: .* is not a pair of tokens/);
    }
  });

  it("cannot make a special token of a user's text", async () => {
    const json = tinyTokenizerJson() as { added_tokens: unknown[] };
    json.added_tokens.push({ id: tinyVocabulary()["ab"], content: "ab", special: true });
    await expectFault(tinyFiles({ "tokenizer.json": json }), /"ab" is an added token/);
  });
});

describe("kinds other than byte-level BPE", () => {
  it.each([
    ["a normalizer", { normalizer: { type: "NFC" } }],
    ["a pattern of its own", { pre_tokenizer: { type: "Split", pattern: { Regex: "(a+)+$" } } }],
    ["another decoder", { decoder: { type: "WordPiece" } }],
    ["another model", { model: { type: "Unigram", vocab: [] } }],
    ["tokens that swallow white space", { added_tokens: [{ id: 1, content: "</s>", lstrip: true }] }],
    ["an added id that is no integer", { added_tokens: [{ id: -1, content: "</s>" }] }],
  ])("%s", async (_, changes) => {
    const json = { ...tinyTokenizerJson(), ...changes };
    await expectFault(
      tinyFiles({ "tokenizer.json": json }),
      /tokenizer\.json: .*Only byte-level BPE is supported/,
    );
  });
});

describe("special tokens", () => {
  it("that no file names", async () => {
    const files = { "tokenizer_config.json": null, "config.json": null };
    await expectFault(tinyFiles(files), /no file says what the bos token is/);
  });

  it("that only config.json numbers", async () => {
    const files = { "tokenizer_config.json": null, "config.json": { bos_token_id: 0, eos_token_id: [1, 2] } };
    const tokenizer = await openTokenizer(await folderOf(tinyFiles(files)));
    expect(tokenizer).toMatchObject({ bosId: 0, eosId: 1 });
    files["config.json"].bos_token_id = 999;
    await expectFault(tinyFiles(files), /bos_token_id 999 is not in the vocabulary/);
  });

  it("that only special_tokens_map.json names", async () => {
    const { "tokenizer_config.json": names, ...files } = tinyFiles();
    const tokenizer = await openTokenizer(await folderOf({ ...files, "special_tokens_map.json": names }));
    expect(tokenizer.bosId).toBe(1);
  });

  it("on which the files disagree", async () => {
    await expectFault(
      tinyFiles({ "config.json": { eos_token_id: 2 } }),
      /eos_token "<\/s>" has id 1, but .* says 2/,
    );
  });

  it("that are not in the vocabulary", async () => {
    await expectFault(
      tinyFiles({ "tokenizer_config.json": { bos_token: "<bos>" } }),
      /bos_token "<bos>" is not in/,
    );
    await expectFault(
      tinyFiles({ "tokenizer_config.json": { bos_token: 7 } }),
      /tokenizer_config\.json: bos_token/,
    );
  });

  it("with two ids", async () => {
    const json = { ...tinyTokenizerJson(), added_tokens: [{ id: 262, content: "</s>", special: true }] };
    await expectFault(tinyFiles({ "tokenizer.json": json }), /"<\/s>" has two ids, 1 and 262/);
  });
});

/** From files to ids: the protocol that capture, calibration and evaluation share. */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { readCorpus } from "../../src/eval/documents.ts";
import { openTokenizer, type Tokenizer } from "../../src/text/tokenizer.ts";
import { UsageError } from "../../src/util/errors.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { writeTinyModel } from "../helpers/tiny-model.ts";

const folder = temporaryFolder();
let tokenizer: Tokenizer;
beforeAll(async () => {
  await writeTinyModel(folder);
  tokenizer = await openTokenizer(folder);
});

let files = 0;
const write = (content: string | Uint8Array): string => {
  const file = join(folder, `text-${files++}.txt`);
  writeFileSync(file, content);
  return file;
};
const read = (content: string, limits: Partial<Parameters<typeof readCorpus>[2]> = {}) =>
  readCorpus([write(content)], tokenizer, { maxLength: 90, ...limits });
const ids = (text: string) => Int32Array.from(tokenizer.encode(text));

describe("documents", () => {
  it("stand between separators, without the white space around them", async () => {
    const { documents } = await read("  ab aba\n<|endoftext|>\n\nzebra é\t<|endoftext|>bb");
    expect(documents).toEqual([ids("ab aba"), ids("zebra é"), ids("bb")]);
    expect(documents.every((document) => document[0] === tokenizer.bosId)).toBe(true);
  });

  it("keep white space within them, and special tokens are plain text", async () => {
    const { documents } = await read("ab\n\n  aba</s>b");
    expect(documents).toEqual([ids("ab\n\n  aba</s>b")]);
    expect([...documents[0]!].lastIndexOf(tokenizer.bosId)).toBe(0);
  });

  it("that are empty are none", async () => {
    const { documents } = await read("<|endoftext|> \n <|endoftext|>ab<|endoftext|><|endoftext|>");
    expect(documents).toEqual([ids("ab")]);
  });

  it("are cut at the model's context", async () => {
    const { documents } = await read(`${"zebra ".repeat(50)}<|endoftext|>ab`, { maxLength: 10 });
    expect(documents).toEqual([ids("zebra ".repeat(50)).slice(0, 10), ids("ab")]);
  });

  it("with nothing to score are left out", async () => {
    await expect(read("ab<|endoftext|>aba", { maxLength: 1 })).rejects.toThrow(UsageError);
  });

  it("come from all files, in their order; a file border is a document border", async () => {
    const contents = ["ab<|endoftext|>bb", "aba"];
    const paths = contents.map(write);
    const { documents, sources } = await readCorpus(paths, tokenizer, { maxLength: 90 });
    expect(documents).toEqual([ids("ab"), ids("bb"), ids("aba")]);
    expect(sources).toEqual(
      contents.map((content, i) => ({
        name: paths[i]!.slice(folder.length + 1),
        sha256: createHash("sha256").update(content).digest("hex"),
      })),
    );
  });

  it("may start with a byte order mark and end their lines with a carriage return", async () => {
    const { documents } = await read("\ufeffab\r\n<|endoftext|>\r\nbb\r\n");
    expect(documents).toEqual([ids("ab"), ids("bb")]);
  });
});

describe("limits", () => {
  const many = Array.from({ length: 9 }, () => "ab aba").join("<|endoftext|>");

  it("of documents", async () => {
    expect((await read(many, { maxDocuments: 4 })).documents).toHaveLength(4);
    expect((await read(many, { maxDocuments: 40 })).documents).toHaveLength(9);
  });

  it("of ids end after the document that reaches them", async () => {
    const { length } = ids("ab aba");
    expect(length).toBeGreaterThan(2);
    expect((await read(many, { maxIds: 1 })).documents).toHaveLength(1);
    expect((await read(many, { maxIds: 3 * length })).documents).toHaveLength(3);
    expect((await read(many, { maxIds: 3 * length + 1 })).documents).toHaveLength(4);
  });

  it("hold over all files together, whose names stay on the list", async () => {
    const { documents, sources } = await readCorpus([write(many), write(many)], tokenizer, {
      maxLength: 90,
      maxDocuments: 2,
    });
    expect(documents).toHaveLength(2);
    expect(sources).toHaveLength(2);
  });
});

describe("files that will not do", () => {
  it.each([
    ["missing", () => join(folder, "absent.txt"), /cannot be read/],
    ["folder", () => join(folder, "some-folder"), /cannot be read/],
    ["not UTF-8", () => write(Uint8Array.of(0x61, 0x62, 0xc3, 0x28)), /not UTF-8/],
    ["cut within a character", () => write(Uint8Array.of(0x61, 0xe2, 0x82)), /not UTF-8/],
    ["empty", () => write(""), /no text in/],
    ["blank", () => write(" \n\t<|endoftext|>\n"), /no text in/],
  ])("%s", async (_, make, reason) => {
    mkdirSync(join(folder, "some-folder"), { recursive: true });
    const file = make();
    const failed = readCorpus([file], tokenizer, { maxLength: 90 });
    await expect(failed).rejects.toThrow(UsageError);
    await expect(failed).rejects.toThrow(reason);
    await expect(failed).rejects.toThrow(file);
  });
});

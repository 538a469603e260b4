import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { Store, storeFileName, writeWhole } from "../../src/study/store.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const root = temporaryFolder();
let folders = 0;
const folder = () => join(root, String(folders++));
const key = { model: "m", bundle: "b" };

async function open(at: string, of: Record<string, string> = key) {
  const notes: string[] = [];
  return { store: await Store.open(at, of, (sentence) => notes.push(sentence)), notes };
}

describe("kept results", () => {
  it("are computed once, also across runs, and say so", async () => {
    const at = folder();
    const first = await open(at);
    expect(first.notes).toEqual([]);
    expect(await first.store.part("a", z.number(), async () => 3)).toBe(3);
    const second = await open(at);
    expect(second.notes).toEqual([expect.stringContaining("1 finished parts are kept")]);
    expect(second.store.has("a")).toBe(true);
    expect(await second.store.part("a", z.number(), () => Promise.reject(new Error("again")))).toBe(3);
  });

  it("of another key are dropped, and what changed is named", async () => {
    const at = folder();
    await (await open(at)).store.part("a", z.number(), async () => 3);
    const { store, notes } = await open(at, { model: "m", bundle: "other" });
    expect(notes).toEqual([expect.stringMatching(/study\.json: .*another bundle; starting anew/)]);
    expect(store.has("a")).toBe(false);
    expect(await store.part("a", z.number(), async () => 4)).toBe(4);
  });

  it.each(["", "{", '{"version":0}', "[]"])(
    "that cannot be read (%j) are dropped with a word",
    async (text) => {
      const at = folder();
      await (await open(at)).store.part("a", z.number(), async () => 3);
      writeFileSync(join(at, storeFileName), text);
      const { store, notes } = await open(at);
      expect(notes).toEqual([expect.stringContaining("starting anew")]);
      expect(store.has("a")).toBe(false);
    },
  );

  it("of another shape are computed again", async () => {
    const at = folder();
    await (await open(at)).store.part("a", z.number(), async () => 3);
    const { store } = await open(at);
    expect(await store.part("a", z.string(), async () => "new")).toBe("new");
  });

  it("stay as they were when a part fails", async () => {
    const at = folder();
    const { store } = await open(at);
    await store.part("a", z.number(), async () => 3);
    const before = readFileSync(join(at, storeFileName), "utf8");
    await expect(store.part("b", z.number(), () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(readFileSync(join(at, storeFileName), "utf8")).toBe(before);
    expect(readdirSync(at)).toEqual([storeFileName]);
  });
});

it("a file that cannot be put in place leaves nothing beside it", async () => {
  const at = folder();
  await open(at);
  const taken = join(at, "taken");
  await Store.open(taken, key, () => {}); // a folder stands where the file should go
  writeFileSync(join(taken, "inside"), "");
  await expect(writeWhole(taken, "text")).rejects.toThrow();
  expect(existsSync(`${taken}.partial`)).toBe(false);
});

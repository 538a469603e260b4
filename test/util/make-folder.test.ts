/** Folders are made, or an error comes; nothing hangs. */
import { existsSync } from "node:fs";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeFolder } from "../../src/util/make-folder.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

describe("makeFolder", () => {
  it("makes what is missing, and leaves what is there", async () => {
    const folder = join(temporaryFolder(), "a", "b", "c");
    await makeFolder(folder);
    await makeFolder(folder);
    expect((await stat(folder)).isDirectory()).toBe(true);
  });

  it("lets others make the same one", async () => {
    const folder = join(temporaryFolder(), "a", "b");
    await Promise.all(Array.from({ length: 8 }, () => makeFolder(folder)));
    expect((await stat(folder)).isDirectory()).toBe(true);
  });

  it("refuses where a file is in the way", async () => {
    const folder = temporaryFolder();
    await mkdir(join(folder, "a"));
    await writeFile(join(folder, "a", "file"), "");
    await expect(makeFolder(join(folder, "a", "file"))).rejects.toThrow("EEXIST");
    await expect(makeFolder(join(folder, "a", "file", "b"))).rejects.toThrow(/EEXIST|ENOTDIR/);
  });

  it.runIf(existsSync("/proc/self"))("refuses where the system lets nobody make one", async () => {
    await expect(makeFolder("/proc/no-such/folder")).rejects.toThrow("ENOENT");
  });
});

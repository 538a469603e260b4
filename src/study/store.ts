/** Results of finished parts on disk, so that a study that was stopped goes on where it was. */
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { makeFolder } from "../util/make-folder.ts";

export const storeFileName = "study.json";
const storeVersion = 1;

/** What results depend on; each entry's name is what people are told has changed. */
export type StudyKey = Readonly<Record<string, string>>;

const storeSchema = z.strictObject({
  version: z.literal(storeVersion),
  key: z.record(z.string(), z.string()),
  parts: z.record(z.string(), z.unknown()),
});

/** Puts the file in place whole or not at all. */
export async function writeWhole(file: string, text: string): Promise<void> {
  const partial = `${file}.partial`;
  try {
    await writeFile(partial, text);
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}

async function readStore(file: string): Promise<z.infer<typeof storeSchema> | "absent" | "unreadable"> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "absent";
    throw error;
  }
  try {
    return storeSchema.parse(JSON.parse(text));
  } catch {
    return "unreadable";
  }
}

export class Store {
  readonly #file: string;
  readonly #key: StudyKey;
  readonly #parts: Record<string, unknown>;

  private constructor(file: string, key: StudyKey, parts: Record<string, unknown>) {
    this.#file = file;
    this.#key = key;
    this.#parts = parts;
  }

  /** Opens the folder's results, or starts anew where they belong to something else, and tells `note` which. */
  static async open(folder: string, key: StudyKey, note: (sentence: string) => void): Promise<Store> {
    await makeFolder(folder);
    const file = join(folder, storeFileName);
    const kept = await readStore(file);
    if (kept === "absent") return new Store(file, key, {});
    if (kept === "unreadable") {
      note(`${file}: not the results of a study of this version; starting anew`);
      return new Store(file, key, {});
    }
    const names = [...new Set([...Object.keys(key), ...Object.keys(kept.key)])];
    const changed = names.filter((name) => key[name] !== kept.key[name]);
    if (changed.length > 0) {
      note(`${file}: kept results are of another ${changed.join(", ")}; starting anew`);
      return new Store(file, key, {});
    }
    const count = Object.keys(kept.parts).length;
    if (count > 0) note(`${file}: ${count} finished parts are kept and not computed again`);
    return new Store(file, key, kept.parts);
  }

  has(part: string): boolean {
    return Object.hasOwn(this.#parts, part);
  }

  /** The part's kept result, else what `compute` yields, which is kept before it is returned. */
  async part<T>(name: string, schema: z.ZodType<T>, compute: () => Promise<T>): Promise<T> {
    const kept = schema.safeParse(this.#parts[name]);
    if (kept.success) return kept.data;
    const result = schema.parse(await compute());
    this.#parts[name] = result;
    await writeWhole(
      this.#file,
      JSON.stringify({ version: storeVersion, key: this.#key, parts: this.#parts }),
    );
    return result;
  }
}

/** A folder that is filled beside its place, and put there whole or not at all. */
import { randomUUID } from "node:crypto";
import { mkdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { WeightsError } from "../util/errors.ts";
import { systemReason } from "./shard.ts";

/**
 * Makes an empty folder beside `target`, hands it to `fill` and renames it to `target`, a folder there before included.
 * @throws what `fill` throws, and WeightsError where the disk refuses: then `target` is as it was, and nothing else is left
 */
export async function writeFolder(target: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const place = resolve(target);
  const beside = (suffix: string) => join(dirname(place), `.${basename(place)}.${randomUUID()}.${suffix}`);
  const folder = beside("tmp");
  try {
    await mkdir(folder);
  } catch (cause) {
    throw new WeightsError(
      { file: target, reason: `it cannot be written: ${systemReason(cause)}` },
      { cause },
    );
  }
  const old = beside("old");
  try {
    await fill(folder);
    const hadOld = await rename(place, old).then(
      () => true,
      (cause: NodeJS.ErrnoException) => {
        if (cause.code === "ENOENT") return false;
        throw cause;
      },
    );
    await rename(folder, place).catch(async (cause: unknown) => {
      if (hadOld) await rename(old, place);
      throw cause;
    });
  } catch (cause) {
    await rm(folder, { recursive: true, force: true });
    throw cause;
  }
  await rm(old, { recursive: true, force: true });
}

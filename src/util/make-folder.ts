/** Makes folders, and looks into those that a user named. */
import { mkdir, readdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { UsageError } from "./errors.ts";

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

/**
 * Makes a folder, and those above it that are not there. Node's own `recursive` never returns where the system says that there
 * is nothing at a path whose parent is there, as in /proc.
 * @throws what the system says, where it refuses
 */
export async function makeFolder(path: string): Promise<void> {
  if (await isFolder(path)) return;
  const parent = dirname(path);
  if (parent !== path) await makeFolder(parent);
  try {
    await mkdir(path);
  } catch (cause) {
    // Someone else may have made it meanwhile.
    if (!(await isFolder(path))) throw cause;
  }
}

/**
 * The same for a folder that the user named.
 * @param named how errors begin
 * @throws UsageError
 */
export async function makeNamedFolder(path: string, named: string): Promise<void> {
  try {
    await makeFolder(path);
  } catch (cause) {
    throw new UsageError(`${named}: cannot be made a folder: ${(cause as Error).message}`, { cause });
  }
}

/**
 * What is in a folder that the user named; null if there is nothing at the path.
 * @param explain the error's text, of why it cannot be read
 * @throws UsageError
 */
export async function namesIn(path: string, explain: (reason: string) => string): Promise<string[] | null> {
  try {
    return await readdir(path);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return null;
    throw new UsageError(explain(code === "ENOTDIR" ? "is a file" : message), { cause });
  }
}

/** Makes folders. */
import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";

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

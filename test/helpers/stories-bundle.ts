import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundledModel, load } from "../../src/load.ts";
import { bundleFileName } from "../../src/sparsity/bundle.ts";
import { prepare } from "../../src/train/prepare.ts";
import { randomStories } from "./tiny-model.ts";

/** The bundle that comes with the bundled model; null where there is none yet. */
export function shippedBundle(): string | null {
  const file = join(bundledModel, bundleFileName);
  return existsSync(file) ? file : null;
}

/** A bundle for the bundled model: its own, or a hasty one made in `folder`. */
export async function storiesBundle(folder: string): Promise<string> {
  const shipped = shippedBundle();
  if (shipped !== null) return shipped;
  const text = join(folder, "stories.txt");
  const out = join(folder, bundleFileName);
  writeFileSync(text, randomStories(40));
  using engine = await load();
  await prepare(engine, { texts: [text], out, rows: 2000, epochs: 1, rank: 16 });
  return out;
}

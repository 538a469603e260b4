/** The only place that loads the binary. */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Addon } from "./addon-types.ts";
import { surfaceVersion } from "./addon-types.ts";

export class NativeUnavailableError extends Error {
  override readonly name = "NativeUnavailableError";

  constructor(reason: string, remedy: string, options?: ErrorOptions) {
    super(`The native backend is not available: ${reason}. ${remedy}`, options);
  }
}

/** The package's root, as far above src/kernels/native as above dist/kernels/native. */
const root = fileURLToPath(new URL("../../../", import.meta.url));
const remedy = "Run `npm rebuild dejavu` (in a checkout: `npm run install`), or use the reference backend.";

let loaded: Addon | undefined;

export function loadAddon(): Addon {
  if (loaded) return loaded;
  let addon: Addon;
  try {
    const load = createRequire(import.meta.url)("node-gyp-build") as (directory: string) => Addon;
    addon = load(root);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split("\n")[0]! : String(cause);
    throw new NativeUnavailableError(reason, remedy, { cause });
  }
  if (addon.surfaceVersion !== surfaceVersion)
    throw new NativeUnavailableError("the binary was built from another version of the sources", remedy);
  loaded = addon;
  return addon;
}

/** Builds the native addon when the package is installed. Without one everything still runs, on the reference backend. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function newest(path) {
  if (!statSync(path).isDirectory()) return statSync(path).mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** Whether a binary is there that loads and, if it was built here, is no older than its sources. */
function isReady() {
  try {
    const load = createRequire(import.meta.url)("node-gyp-build");
    const file = load.path(root);
    const builtHere = file.startsWith(join(root, "build") + sep);
    if (
      builtHere &&
      statSync(file).mtimeMs < Math.max(newest(join(root, "native")), newest(join(root, "binding.gyp")))
    )
      return false;
    load(root);
    return true;
  } catch {
    return false;
  }
}

/** Runs node-gyp; returns undefined, or in a few words why there is no addon. */
function build() {
  const prefix = dirname(dirname(process.execPath));
  const headers = existsSync(join(prefix, "include", "node", "node_api.h")) ? [`--nodedir=${prefix}`] : [];
  const path = [join(root, "node_modules", ".bin"), process.env.PATH].join(delimiter);
  const result = spawnSync("node-gyp", ["rebuild", "-j", "max", ...headers], {
    cwd: root,
    env: { ...process.env, PATH: path },
    encoding: "utf8",
    shell: process.platform === "win32",
    maxBuffer: 64 << 20,
  });
  if (result.error) return result.error.code === "ENOENT" ? "node-gyp was not found" : result.error.message;
  if (result.status === 0) return isReady() ? undefined : "the binary that was built does not load";
  const lines = `${result.stdout}\n${result.stderr}`.split("\n");
  const cause = lines.find((line) => /\berror: |not found|Could not find|ERR! stack Error/i.test(line));
  return cause
    ? cause
        .replace(/^.*?(ERR! stack Error:|error:)\s*/i, "")
        .trim()
        .slice(0, 120)
    : "the compiler failed";
}

const reason =
  process.env["DEJAVU_SKIP_NATIVE"] === "1" ? "DEJAVU_SKIP_NATIVE is set" : isReady() ? undefined : build();
if (reason)
  console.log(`dejavu: no native addon (${reason}); everything runs on the slower reference backend.`);

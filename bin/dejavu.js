#!/usr/bin/env node
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const main = new URL("../dist/cli/main.js", import.meta.url);
if (existsSync(fileURLToPath(main))) {
  const { start } = await import(main.href);
  await start();
} else {
  process.stderr.write("dejavu: the program is not built yet: run `npm run build` in its folder.\n");
  process.exitCode = 1;
}

/**
 * Checks the import rules of ARCHITECTURE.md: imports go one way only, there are no cycles (type imports count), nobody
 * but open.ts knows the backends, and source files keep to the size limit. Prints every violation; exits 1 if any.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../src", import.meta.url));
const maxLines = 300;

/** A file may import from its own layer's names listed here and from all lower layers it names. */
const rules = {
  util: ["util"],
  tensor: ["tensor", "util"],
  text: ["text", "tensor", "util"],
  weights: ["weights", "tensor", "util"],
  sampling: ["sampling", "tensor", "util"],
  kernels: ["kernels", "tensor", "util"],
  sparsity: ["sparsity", "kernels/contract.ts", "weights", "tensor", "util"],
  layers: ["layers", "sparsity", "kernels/contract.ts", "tensor", "util"],
  models: ["models", "layers", "sparsity", "kernels/contract.ts", "weights", "tensor", "util"],
  "load.ts": ["models", "sparsity", "kernels", "text", "sampling", "weights", "tensor", "util"],
  "quantize.ts": ["models", "sparsity", "kernels", "text", "weights", "tensor", "util"],
  "synthetic-folder.ts": ["quantize.ts", "models", "kernels", "sampling", "weights", "util"],
  "synthetic.ts": [
    "synthetic-folder.ts",
    "load.ts",
    "models",
    "sparsity",
    "kernels",
    "text",
    "sampling",
    "tensor",
    "util",
  ],
  "sequence.ts": ["load.ts", "text", "sampling", "tensor", "util"],
  "choose.ts": ["load.ts", "sequence.ts", "models", "tensor", "util"],
  "batch.ts": ["load.ts", "sequence.ts", "choose.ts", "models", "sparsity", "tensor", "util"],
  "generate.ts": [
    "sequence.ts",
    "choose.ts",
    "load.ts",
    "models",
    "sparsity",
    "text",
    "sampling",
    "tensor",
    "util",
  ],
  eval: [
    "eval",
    "generate.ts",
    "batch.ts",
    "load.ts",
    "models",
    "sparsity",
    "kernels",
    "sampling",
    "text",
    "tensor",
    "util",
  ],
  train: [
    "train",
    "eval",
    "load.ts",
    "models",
    "sparsity",
    "kernels",
    "weights",
    "sampling",
    "tensor",
    "util",
  ],
  study: [
    "study",
    "train",
    "eval",
    "generate.ts",
    "load.ts",
    "models",
    "sparsity",
    "kernels",
    "weights",
    "sampling",
    "text",
    "tensor",
    "util",
  ],
  "index.ts": ["*"],
  cli: ["*"],
};

function filesIn(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesIn(path);
    return path.endsWith(".ts") ? [path] : [];
  });
}

const importPattern =
  /(?:^|\n)\s*(?:import|export)\b[^;"']*?from\s*["'](\.[^"']+)["']|import\(\s*["'](\.[^"']+)["']\s*\)/g;

const graph = new Map();
const problems = [];
for (const file of filesIn(root)) {
  const source = readFileSync(file, "utf8");
  const lines = source.split("\n").length - 1;
  const name = relative(root, file);
  if (lines > maxLines) problems.push(`${name}: ${lines} lines, the limit is ${maxLines}`);
  const targets = [...source.matchAll(importPattern)].map((match) =>
    relative(root, resolve(dirname(file), match[1] ?? match[2])),
  );
  graph.set(name, targets);
}

for (const [name, targets] of graph) {
  const layer = name.includes("/") ? name.slice(0, name.indexOf("/")) : name;
  const allowed = rules[layer];
  if (allowed === undefined) {
    problems.push(`${name}: no import rule for "${layer}"; add one to scripts/check-layers.js`);
    continue;
  }
  for (const target of targets) {
    if (target.startsWith("..")) {
      problems.push(`${name} imports ${target}, outside src`);
      continue;
    }
    if (!graph.has(target)) problems.push(`${name} imports ${target}, which does not exist`);
    const fits = allowed.some((rule) => rule === "*" || target === rule || target.startsWith(`${rule}/`));
    if (!fits) problems.push(`${name} imports ${target}: ${layer} may import ${allowed.join(", ")}`);
    const backend = target.match(/^kernels\/(reference|native)\//)?.[1];
    const isOwn = name.startsWith(`kernels/${backend}/`) || name === "kernels/open.ts";
    const isReport = target === "kernels/native/addon-types.ts" || target === "kernels/native/probe.ts";
    if (backend && !isOwn && !isReport && !name.startsWith("cli/"))
      problems.push(`${name} imports ${target}: only kernels/open.ts knows the backends`);
  }
}

/** Depth-first search that reports the first cycle through each file. */
function findCycles() {
  const done = new Set();
  const path = [];
  const visit = (name) => {
    const at = path.indexOf(name);
    if (at >= 0) {
      problems.push(`cycle: ${[...path.slice(at), name].join(" → ")}`);
      return;
    }
    if (done.has(name)) return;
    path.push(name);
    for (const target of graph.get(name) ?? []) visit(target);
    path.pop();
    done.add(name);
  };
  for (const name of graph.keys()) visit(name);
}
findCycles();

for (const problem of problems) console.error(problem);
console.log(`${graph.size} files, ${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;

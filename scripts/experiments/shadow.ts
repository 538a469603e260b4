/**
 * One predictor for all blocks, trained on |gradient · activation| (ShadowLLM), against a predictor per layer
 * (docs/decisions/0007-one-predictor-for-all-blocks.md). Prints Markdown. What came of it: `prepare --predictor shadow`.
 *
 *   npx tsx scripts/experiments/shadow.ts --text FILE [--check FILE] [--rows N] [--hidden 256] [--only neurons,heads,written]
 */
import { parseArgs } from "node:util";
import { oracleScorer } from "../../src/sparsity/oracle.ts";
import type { Policy } from "../../src/sparsity/policy.ts";
import { ScoredSelector, type Scorer, type SelectorKind } from "../../src/sparsity/selector.ts";
import { regressHeads } from "../../src/train/head-regression.ts";
import { loadRows } from "../../src/train/rows.ts";
import { printTable } from "./markdown.ts";
import { reporter, reportOne, reportPerLayer, staticOf, train } from "./shadow-runs.ts";
import { collect, type Importances, joined, writtenNorms } from "./shadow-targets.ts";
import { defaults, trainVariant } from "./train-variant.ts";
import { openWorkbench, type Workbench } from "./workbench.ts";

const { values } = parseArgs({
  options: {
    text: { type: "string" },
    check: { type: "string" },
    rows: { type: "string", default: "12000" },
    documents: { type: "string", default: "24" },
    hidden: { type: "string", default: "256" },
    only: { type: "string", default: "neurons,heads,written" },
  },
});
if (values.text === undefined) throw new Error("--text FILE is needed");
const wide = Number(values.hidden);
const perLayerRank = 32;
/** Hidden width at which the one predictor has about as many weights as seven of rank 32. */
const narrow = 40;

/** One scorer for every density: a selector may not dispose of it; the bench's kernels end with the program. */
const fixed = (bench: Workbench, kind: SelectorKind, scorer: Scorer) => (policy: Policy) =>
  new ScoredSelector(kind, bench.engine.kernels, { ...scorer, dispose() {} }, policy);

async function neurons(bench: Workbench, found: Importances) {
  const densities = [0.1, 0.2, 0.3];
  const rows: string[][] = [];
  const report = reporter(bench, "neurons", densities, rows);
  await report("oracle: activation", null, fixed(bench, "oracle", oracleScorer));
  const settings = { ...defaults, rank: perLayerRank };
  const started = await trainVariant(bench, { name: "fc1" }, settings);
  await reportPerLayer(bench, report, "neurons", "per layer: active, from fc1", async (layer) => {
    return started.layers.find((made) => made.layer === layer)!.parameters;
  });
  await reportPerLayer(bench, report, "neurons", "per layer: active, from random", async (layer) =>
    train(bench, await bench.rows(layer, "mlp-input"), perLayerRank, "active", "none"),
  );
  await reportPerLayer(bench, report, "neurons", "per layer: importance", async (layer) => {
    const base = await bench.rows(layer, "mlp-input");
    const target = await joined(bench, base, found, "neurons", "importance", [layer]);
    return train(bench, target, perLayerRank, "importance", "none");
  });
  const one = (name: string, hidden: number, target: "importance" | "active") =>
    reportOne(bench, report, found, "neurons", `one: ${name}, hidden ${hidden}`, hidden, target);
  await one("importance (ShadowLLM)", narrow, "importance");
  await one("importance (ShadowLLM)", wide, "importance");
  await one("active", wide, "active");
  const statics = async (name: string, target: "importance" | "active") =>
    report(
      `static: ${name}`,
      null,
      fixed(
        bench,
        "static",
        await staticOf(bench, "neurons", async (layer) =>
          joined(bench, await bench.rows(layer, "mlp-input"), found, "neurons", target, [layer]),
        ),
      ),
    );
  await statics("share of tokens where active", "active");
  await statics("mean importance", "importance");
  const header = [
    "neurons of layers 1–7 by",
    "weights",
    ...densities.map((d) => `${100 * d} %: perplexity (KL)`),
  ];
  printTable("Neurons, top-k at equal density", header, rows);
}

const headHeader = [
  "heads of layers 1–7 by",
  "weights",
  "5 of 6: perplexity (KL)",
  "4 of 6: perplexity (KL)",
];

async function heads(bench: Workbench, found: Importances) {
  const count = bench.engine.model.shape.heads;
  const { fingerprint } = await bench.engine.identity();
  const rows: string[][] = [];
  const report = reporter(bench, "heads", [5 / 6, 4 / 6], rows);
  const { kernels } = bench.engine;
  const norms = (layer: number) =>
    loadRows(bench.folder, layer, "heads", count, "attention-input", fingerprint);
  const important = async (layer: number) =>
    joined(bench, await norms(layer), found, "heads", "importance", [layer]);
  await report("oracle: norm", null, fixed(bench, "oracle", oracleScorer));
  await reportPerLayer(bench, report, "heads", "per layer: norm, by regression", async (layer) =>
    regressHeads(kernels, await norms(layer)),
  );
  await reportPerLayer(bench, report, "heads", "per layer: importance, by regression", async (layer) =>
    regressHeads(kernels, await important(layer)),
  );
  for (const target of ["importance", "root"] as const) {
    const name = target === "root" ? "root of importance" : "importance (ShadowLLM)";
    await reportOne(bench, report, found, "heads", `one: ${name}, hidden ${wide}`, wide, target);
  }
  await report("static: mean norm", null, fixed(bench, "static", await staticOf(bench, "heads", norms)));
  const byImportance = await staticOf(bench, "heads", important);
  await report("static: mean importance", null, fixed(bench, "static", byImportance));
  printTable("Heads, top-k at equal density", headHeader, rows);
}

/** Whether the gradient is needed, or the length of what a head adds says as much. */
async function written(bench: Workbench) {
  const count = bench.engine.model.shape.heads;
  const { fingerprint } = await bench.engine.identity();
  const rows: string[][] = [];
  const report = reporter(bench, "heads", [5 / 6, 4 / 6], rows);
  const norms = (layer: number) =>
    loadRows(bench.folder, layer, "heads", count, "attention-input", fingerprint);
  await reportPerLayer(
    bench,
    report,
    "heads",
    "per layer: norm of what is added, by regression",
    async (layer) => regressHeads(bench.engine.kernels, await writtenNorms(bench, await norms(layer), layer)),
  );
  const scorer = await staticOf(bench, "heads", async (l) => writtenNorms(bench, await norms(l), l));
  await report("static: mean norm of what is added", null, fixed(bench, "static", scorer));
  printTable("Heads by what they add to the residual", headHeader, rows);
}

const bench = await openWorkbench({
  text: values.text,
  check: values.check,
  rows: Number(values.rows),
  layers: [1, 2, 3, 4, 5, 6, 7],
  checkDocuments: Number(values.documents),
});
try {
  let collected: Promise<Importances> | undefined;
  const found = () => (collected ??= collect(bench));
  const sections: Record<string, () => Promise<void>> = {
    neurons: async () => neurons(bench, await found()),
    heads: async () => heads(bench, await found()),
    written: () => written(bench),
  };
  for (const name of values.only.split(",")) await sections[name]!();
} finally {
  await bench.close();
}

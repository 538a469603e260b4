/** `dejavu eval`: quality of a selector, or of all of them at equal densities. */
import { Option } from "commander";
import { type Score, score } from "../../eval/score.ts";
import { UsageError } from "../../util/errors.ts";
import type { CommandSpec, Context } from "../command.ts";
import { type Comparison, compare, contenders } from "../compare.ts";
import { chooseSelector, readDocuments, withEngine } from "../engine.ts";
import { change, count, megabytes, percent, perplexity } from "../format.ts";
import {
  type CommonFlags,
  integer,
  type SelectorFlags,
  seedOption,
  selectorOptions,
  shares,
} from "../options.ts";
import { renderTable } from "../table.ts";

interface Flags extends CommonFlags, SelectorFlags {
  readonly text?: string[];
  readonly documents: number;
  readonly seed?: number;
  readonly compare?: number[];
  readonly heads?: boolean;
}

function scoreText(result: Score, width: number): string {
  const { mlp, heads, bytesPerToken: bytes } = result;
  const fidelity = (title: string, { density, recall, precision }: Score["mlp"]) => [
    title,
    percent(density),
    percent(recall),
    percent(precision),
  ];
  const quality = renderTable(
    [{ title: "", align: "left" }, { title: "dense" }, { title: result.selector }, { title: "" }],
    [
      [
        "perplexity",
        perplexity(result.densePerplexity),
        perplexity(result.perplexity),
        change(result.perplexity, result.densePerplexity, 2),
      ],
      [
        "weights read per token",
        megabytes(bytes.dense),
        megabytes(bytes.touched),
        percent(bytes.touched / bytes.dense),
      ],
      [
        "  of these the MLP",
        megabytes(bytes.mlp.dense),
        megabytes(bytes.mlp.touched),
        percent(bytes.mlp.touched / bytes.mlp.dense),
      ],
      [
        "  of these the predictors",
        megabytes(0),
        megabytes(bytes.predictor),
        percent(bytes.predictor / bytes.dense),
      ],
    ],
    width,
  );
  const choice = renderTable(
    [{ title: "computed", align: "left" }, { title: "density" }, { title: "recall" }, { title: "precision" }],
    [fidelity("MLP neurons", mlp), fidelity("heads", heads)],
    width,
  );
  const active = result.activeNeuronShare.map((value) => percent(value)).join(", ");
  return [
    `${result.documents} documents, ${count(result.scoredIds)} scored tokens\n`,
    quality,
    choice,
    `KL to dense ${result.kl.toFixed(5)} nats, same most likely token ${percent(result.top1Agreement)}\nactive neurons by layer: ${active}\n`,
  ].join("\n");
}

function comparisonText({ dense, unit, rows }: Comparison, width: number): string {
  const cell = (value: number) => `${perplexity(value)} (${change(value, dense)})`;
  const title = unit === "heads" ? "head density" : "MLP density";
  const table = renderTable(
    [title, ...contenders].map((text) => ({ title: text })),
    rows.map((row) => [percent(row.density), ...contenders.map((kind) => cell(row[kind]))]),
    width,
  );
  return `perplexity at equal density, dense ${perplexity(dense)}\n\n${table}`;
}

async function runEval(context: Context, flags: Flags): Promise<void> {
  const { output, signal } = context;
  if (flags.heads && flags.compare === undefined)
    throw new UsageError("--heads says which densities --compare varies; give --compare D1,D2,… too");
  await withEngine(context, flags, async (engine) => {
    const documents = await readDocuments(engine, flags.text, flags.documents);
    const onProgress = (done: number, total: number) => output.progress.update("scoring", done, total);
    if (flags.compare !== undefined) {
      const unit = flags.heads ? "heads" : "neurons";
      const options = { unit, densities: flags.compare, seed: flags.seed ?? 0, onProgress, signal } as const;
      const comparison = await compare(engine, documents, options);
      output.result(comparison, () => comparisonText(comparison, output.width));
      return;
    }
    const selector = await chooseSelector(engine, flags, flags.seed);
    try {
      const result = await score(engine, documents, selector, { onProgress, signal });
      const { nllPerDocument: _nll, ...shown } = result;
      output.result(shown, () => scoreText(result, output.width));
    } finally {
      selector.dispose();
    }
  });
}

export const evalCommand: CommandSpec<Flags> = {
  name: "eval",
  summary: "Measure what sparsity costs in quality and saves in bytes",
  details: "Every document is scored alone; every token runs under the selector, beside the dense model.",
  examples: [
    ["eval", "predicted against dense, on the bundled sample"],
    ["eval --selector oracle --mlp-density 0.1", "the best tenth of the neurons"],
    ["eval --quality 0.02", "a point of the bundle's trade-off curve"],
    ["eval --compare 0.05,0.1,0.2,0.4", "all selectors at equal MLP densities"],
    ["eval --compare 5/6,4/6,3/6 --heads --documents 20", "the same over heads"],
    ["eval models/stories-4m --text a.txt b.txt --json", "own text, for a script"],
  ],
  options: [
    new Option(
      "--text <file...>",
      "text to score, documents separated by <|endoftext|> (default: sample.txt in the model folder)",
    ),
    new Option("--documents <n>", "documents to score, from the first on").argParser(integer(1)).default(60),
    ...selectorOptions,
    new Option(
      "--compare <densities>",
      "perplexity of oracle, predicted, static and random at these densities, like 0.1,0.2",
    )
      .argParser(shares)
      .conflicts(["selector", "mlpDensity", "headDensity", "quality"]),
    new Option("--heads", "with --compare: densities of heads instead of MLP neurons"),
    seedOption("the random selector (default: 0)"),
  ],
  run: runEval,
};

/** `dejavu study`: what the paper claims, measured on a model, as a report. */
import { basename, isAbsolute } from "node:path";
import { Option } from "commander";
import { openRenderer } from "../../study/render.ts";
import type { Report } from "../../study/schema.ts";
import { defaultDocuments } from "../../study/settings.ts";
import { type StudyStage, study } from "../../study/study.ts";
import { type WrittenReport, writeReport } from "../../study/write-report.ts";
import { makeNamedFolder } from "../../util/make-folder.ts";
import type { CommandSpec, Context } from "../command.ts";
import { withEngine } from "../engine.ts";
import { describeMachine } from "../machine.ts";
import { type CommonFlags, integer, seedOption } from "../options.ts";

interface Flags extends CommonFlags {
  readonly text: string[];
  readonly out: string;
  readonly documents?: number;
  readonly quick?: boolean;
  readonly svg?: boolean;
  readonly seed: number;
}

const stageNames: Record<StudyStage, string> = {
  observe: "observing activations",
  predictors: "measuring predictors",
  speed: "timing",
  quality: "quality over density",
};

/** The command line for the report. What lies where on this machine says nothing to others; names do. */
function commandLine({ folder }: Context, flags: Flags): string {
  const { text, out, documents, quick, seed, bundle, backend, threads, hugePages, mmap } = flags;
  const name = (path: string) => (isAbsolute(path) ? basename(path) : path);
  const words: (string | number)[] = ["dejavu", "study", name(folder), "--text", ...text.map(name)];
  if (bundle !== undefined) words.push("--bundle", name(bundle));
  if (documents !== undefined) words.push("--documents", documents);
  if (quick) words.push("--quick");
  if (seed !== 0) words.push("--seed", seed);
  if (backend !== undefined) words.push("--backend", backend);
  if (threads !== undefined) words.push("--threads", threads);
  if (mmap === false) words.push("--no-mmap");
  if (hugePages === false) words.push("--no-huge-pages");
  return [...words, "--out", name(out)].join(" ");
}

function studyText({ findings }: Report, files: readonly string[]): string {
  const leads = Object.values(findings).map((sentences) => `- ${sentences[0]}\n`);
  return `${leads.join("")}\nwritten: ${files.join(", ")}\n`;
}

async function runStudy(context: Context, flags: Flags): Promise<void> {
  const { output, signal } = context;
  const renderer = await openRenderer();
  await withEngine(context, flags, async (engine) => {
    // Minutes of work must not end in a folder that cannot be.
    await makeNamedFolder(flags.out, `--out ${flags.out}`);
    const { kernels } = engine;
    const numbers = await study(engine, {
      ...{ texts: flags.text, out: flags.out, seed: flags.seed, signal },
      ...{ documents: flags.documents, quick: flags.quick, needsBundle: flags.bundle !== undefined },
      machine: { ...describeMachine(kernels), threads: kernels.threads },
      command: commandLine(context, flags),
      onProgress: (stage, done, total) => output.progress.update(stageNames[stage], done, total),
      onNote: (sentence) => output.note(sentence),
    });
    const written: WrittenReport = await writeReport(numbers, flags.out, renderer, flags.svg ?? false);
    output.result(written.report, () => studyText(written.report, written.files));
  });
}

export const studyCommand: CommandSpec<Flags> = {
  name: "study",
  summary: "Measure the paper's claims on a model and write a report",
  details:
    "Writes report.html and report.json into a folder, and keeps finished parts there: the same command goes on where it was stopped. Without a bundle, what needs predictors is left out.",
  examples: [
    ["study --text stories.txt --out study", "the bundled model; some minutes"],
    ["study models/stories-4m --text a.txt b.txt --out study --quick", "coarse, in a fraction of the time"],
    ["study --text stories.txt --out study --documents 60 --svg", "steadier, and each chart as a file"],
  ],
  options: [
    new Option(
      "--text <file...>",
      "text that predictors were not trained on, documents separated by <|endoftext|>",
    ).makeOptionMandatory(),
    new Option("--out <folder>", "folder for the report and the finished parts").makeOptionMandatory(),
    new Option(
      "--documents <n>",
      `documents that each point of the quality curves is scored on (default: ${defaultDocuments}, with --quick 3)`,
    ).argParser(integer(1)),
    new Option("--quick", "few documents and rounds: a first look"),
    new Option("--svg", "write each chart as an SVG file, too"),
    seedOption("batches drawn and of the random selector").default(0),
  ],
  run: runStudy,
};

/** `dejavu quantize`: the same model in another format. */
import { Option } from "commander";
import { type Quantized, quantize } from "../../quantize.ts";
import { type WeightDtype, weightDtypes } from "../../tensor/dtype.ts";
import type { CommandSpec, Context } from "../command.ts";
import { count, megabytes, percent, weightFormat } from "../format.ts";
import type { CommonFlags } from "../options.ts";

interface Flags extends CommonFlags {
  readonly dtype: WeightDtype;
  readonly out: string;
  readonly force?: boolean;
}

function quantizedText({ out, parameters, bytes, ...format }: Quantized): string {
  const share = percent(bytes.out / bytes.source);
  return [
    `${count(parameters)} parameters in ${weightFormat(format)}: ${megabytes(bytes.out)} instead of ${megabytes(bytes.source)} (${share})\n`,
    `written: ${out}\n`,
  ].join("");
}

async function runQuantize({ output, signal, folder }: Context, flags: Flags): Promise<void> {
  const { backend, threads, hugePages, bundle, dtype, tables, out, force } = flags;
  const result = await quantize(folder, {
    ...{ backend, threads, hugePages, bundle, dtype, tables, out, force, signal },
    onNotice: (sentence) => output.note(sentence),
    onProgress: (done, total) => output.progress.update("converting", done, total),
  });
  output.result(result, () => quantizedText(result));
}

export const quantizeCommand: CommandSpec<Flags> = {
  name: "quantize",
  summary: "Write a model with its weights in another format",
  details:
    "The folder holds weights, tokenizer and bundle, and is put in place whole or not at all. Loading it takes no conversion. int8 has one scale per row, int4 one per 32 weights (its embeddings stay in int8, unless --tables says otherwise); f16 and bf16 only lay the matrices out for loading.",
  examples: [
    ["quantize --dtype int4 --out stories-int4", "the bundled model in a third of the bytes"],
    ["quantize models/opt-6.7b --dtype int8 --out opt-6.7b-int8", "half the bytes of a large model"],
  ],
  options: [
    new Option("--dtype <format>", "format of the weight matrices")
      .choices(weightDtypes)
      .makeOptionMandatory(),
    new Option("--out <folder>", "folder to make").makeOptionMandatory(),
    new Option("--force", "replace the folder, if quantize made it"),
  ],
  run: runQuantize,
};

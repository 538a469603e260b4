/** `dejavu info`: what there is, and whether it fits together. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { NativeUnavailableError, nativeInstructionSets } from "../../kernels/native/native.ts";
import type { Engine } from "../../load.ts";
import type { BundleMetadata } from "../../sparsity/bundle.ts";
import type { WeightDtype } from "../../tensor/dtype.ts";
import { BundleError, WeightsError } from "../../util/errors.ts";
import { version } from "../../util/version.ts";
import type { CommandSpec, Context } from "../command.ts";
import { curveText } from "../curve-text.ts";
import { withEngine } from "../engine.ts";
import { change, count, megabytes, perplexity, weightFormat } from "../format.ts";
import { describeMachine, type Machine } from "../machine.ts";
import type { CommonFlags } from "../options.ts";
import { renderTable } from "../table.ts";

type BundleState =
  | { readonly file: string; readonly state: "missing" }
  | { readonly file: string; readonly state: "unfit"; readonly reason: string }
  | ({ readonly file: string; readonly state: "fits" } & BundleMetadata);

async function inspectBundle(engine: Engine): Promise<BundleState> {
  const file = engine.bundleFile;
  if (!existsSync(file)) return { file, state: "missing" };
  try {
    return { file, state: "fits", ...(await engine.bundle()).metadata };
  } catch (error) {
    if (error instanceof BundleError || error instanceof WeightsError)
      return { file, state: "unfit", reason: error.message };
    throw error;
  }
}

function availableInstructionSets(): readonly string[] {
  try {
    return nativeInstructionSets();
  } catch (error) {
    if (error instanceof NativeUnavailableError) return [];
    throw error;
  }
}

interface Info {
  readonly version: string;
  readonly machine: Machine;
  readonly threads: number;
  readonly instructionSets: readonly string[];
  readonly model: Engine["model"]["shape"] & {
    readonly folder: string;
    readonly parameters: number;
    readonly dtype: WeightDtype;
    readonly tables: WeightDtype;
    readonly bytes: number;
  };
  readonly tokenizer: { readonly vocabSize: number; readonly bosId: number; readonly eosId: number };
  readonly bundle: BundleState;
}

async function collectInfo(engine: Engine): Promise<Info> {
  const { model, tokenizer, kernels } = engine;
  const { parameters, dtype, tables, bytes } = model;
  const { vocabSize, bosId, eosId } = tokenizer;
  return {
    version,
    machine: describeMachine(kernels),
    threads: kernels.threads,
    instructionSets: availableInstructionSets(),
    model: { folder: resolve(engine.folder), ...model.shape, parameters, dtype, tables, bytes },
    tokenizer: { vocabSize, bosId, eosId },
    bundle: await inspectBundle(engine),
  };
}

function bundleRows(bundle: BundleState, folder: string): string[][] {
  if (bundle.state === "missing")
    return [["bundle", `none at ${bundle.file}; make one with: dejavu prepare ${folder} --text FILE`]];
  if (bundle.state === "unfit") return [["bundle", `does not fit: ${bundle.reason}`]];
  const { provenance, predictor, sources, targets, calibration } = bundle;
  const { dense, predicted } = calibration.perplexity;
  const texts = provenance.texts.map(({ name }) => name).join(", ");
  const heldOut = `${perplexity(dense)} dense, ${perplexity(predicted)} predicted (${change(predicted, dense)})`;
  return [
    ["bundle", `${bundle.file}, fits`],
    ["  made by", `${provenance.program} (${provenance.kernels})`],
    ["  from", `${texts}: ${count(provenance.documents)} documents, ${count(provenance.rows)} tokens`],
    ["  predictors", predictor === "shadow" ? "one for all layers" : "one for each layer"],
    ["  read", `${sources.neurons} for neurons, ${sources.heads} for heads`],
    ["  learned", `which neurons are active, the ${targets.heads} of heads`],
    ["  held-out perplexity", heldOut],
  ];
}

function infoText(info: Info, width: number): string {
  const { machine, threads, instructionSets, model, tokenizer, bundle } = info;
  const blocks = `${model.layers} layers, hidden size ${model.hiddenSize}`;
  const units = `${model.heads} heads of ${model.headDim}, ${model.ffnDim} MLP neurons`;
  const available = instructionSets.length > 0 ? instructionSets.join(", ") : "none: the addon is not built";
  const facts = renderTable(
    [
      { title: "", align: "left" },
      { title: "", align: "left" },
    ],
    [
      ["dejavu", version],
      ["model", model.folder],
      ["  type", model.modelType],
      ["  shape", `${blocks}, ${units}, context ${model.maxPositions}`],
      ["  parameters", `${count(model.parameters)}, ${weightFormat(model)}, ${megabytes(model.bytes)}`],
      ["tokenizer", `${count(tokenizer.vocabSize)} tokens, bos ${tokenizer.bosId}, eos ${tokenizer.eosId}`],
      ...bundleRows(bundle, model.folder),
      ["backend", `${machine.backend}, ${machine.instructionSet}, threads: ${threads}`],
      ["  native can run", available],
      [
        "machine",
        `${machine.cpu}, ${machine.cores} cores, ${megabytes(machine.memoryBytes)}, Node ${machine.node}`,
      ],
    ],
  );
  const curve = bundle.state === "fits" ? curveText(bundle, width) : "";
  return curve === "" ? facts : `${facts}\n${curve}`;
}

async function runInfo(context: Context, flags: CommonFlags): Promise<void> {
  await withEngine(context, flags, async (engine) => {
    const info = await collectInfo(engine);
    context.output.result(info, () => infoText(info, context.output.width));
  });
}

export const infoCommand: CommandSpec = {
  name: "info",
  summary: "Show model, tokenizer, bundle, backend and machine",
  examples: [
    ["info", "the bundled model"],
    ["info models/stories-4m --json", "for a script"],
    ["info --bundle other.safetensors", "does this bundle fit?"],
  ],
  options: [],
  run: runInfo,
};

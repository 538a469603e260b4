/** Which architecture a config.json is of. */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { Kernels } from "../kernels/contract.ts";
import { type WeightDtype, weightDtypes } from "../tensor/dtype.ts";
import { ConfigError } from "../util/errors.ts";
import { preparedVersion, type Weights } from "../weights/index.ts";
import type { CheckpointTensors, ReadOptions } from "./checkpoint.ts";
import type { Model } from "./model.ts";
import { loadOpt, openOpt } from "./opt.ts";

export interface Architecture {
  /** Checks the config, then the checkpoint against it, then reads the weights. */
  load(
    kernels: Kernels,
    weights: Weights,
    configJson: unknown,
    configFile: string,
    options?: ReadOptions,
  ): Promise<Model>;
  /** Checks the same; the tensors can be read one by one. */
  open(
    kernels: Kernels,
    weights: Weights,
    configJson: unknown,
    configFile: string,
    options?: ReadOptions,
  ): CheckpointTensors;
}

const architectures: Readonly<Record<string, Architecture>> = { opt: { load: loadOpt, open: openOpt } };

/** What `dejavu quantize` writes into a config, where other programs look for such things. */
export const quantMethod = "dejavu";
const declaration = z.strictObject({
  quant_method: z.literal(quantMethod),
  version: z.literal(preparedVersion),
  dtype: z.enum(weightDtypes),
});

export interface Config {
  readonly file: string;
  readonly json: Readonly<Record<string, unknown>>;
  readonly architecture: Architecture;
  /** The format that the config says the weights were prepared in; null where it says nothing. */
  readonly prepared: WeightDtype | null;
}

/** @throws ConfigError when there is none, or it is of a kind that is not supported */
export async function readConfig(file: string): Promise<Config> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw new ConfigError(`${file}: cannot be read: a model folder needs a config.json`, { cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(`${file}: not JSON: ${(cause as Error).message}`, { cause });
  }
  const type = (json as { model_type?: unknown } | null)?.model_type;
  const architecture =
    typeof type === "string" && Object.hasOwn(architectures, type) ? architectures[type] : undefined;
  if (architecture === undefined)
    throw new ConfigError(
      `${file}: model_type ${JSON.stringify(type)} is not supported; supported: ${Object.keys(architectures).join(", ")}`,
    );
  const fields = json as Record<string, unknown>;
  return { file, json: fields, architecture, prepared: declaredDtype(fields["quantization_config"], file) };
}

function declaredDtype(declared: unknown, file: string): WeightDtype | null {
  if (declared === undefined || declared === null) return null;
  const method = (declared as { quant_method?: unknown }).quant_method;
  if (method !== quantMethod)
    throw new ConfigError(
      `${file}: quantization_config: weights quantized by ${JSON.stringify(method)} cannot be read; take the model as it was published, and --dtype`,
    );
  const parsed = declaration.safeParse(declared);
  if (parsed.success) return parsed.data.dtype;
  const issue = parsed.error.issues[0]!;
  throw new ConfigError(`${file}: quantization_config.${issue.path.join(".")}: ${issue.message}`);
}

/** @throws ConfigError when config and weights were not made together */
export function checkPreparation({ file, prepared }: Config, weights: Weights): void {
  const actual = weights.prepared?.dtype ?? null;
  if (prepared === actual) return;
  const say = (dtype: WeightDtype | null) => dtype ?? "as published";
  throw new ConfigError(
    `${file}: says that the weights are ${say(prepared)}, but ${weights.files[0]} is ${say(actual)}; the two belong to different folders`,
  );
}

/** A checkpoint's tensors once more, for the backward pass: the model keeps its own to itself, and transposes some. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Kernels } from "../../kernels/contract.ts";
import { hasFinalNorm, type OptConfig, parseOptConfig } from "../../models/opt-config.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { ConfigError } from "../../util/errors.ts";
import { openWeights, type Weights } from "../../weights/index.ts";
import { readMatrix } from "./host-weights.ts";

/** y = x·weightᵀ + bias. */
export interface DeviceLinear {
  readonly weight: Tensor; // f32 [out, in]
  readonly bias: Tensor | null; // f32 [out]
}

export interface HostNorm {
  readonly weight: Float32Array | null;
  readonly bias: Float32Array | null;
}

export interface CheckpointBlock {
  readonly attentionNorm: HostNorm;
  readonly query: DeviceLinear;
  readonly key: DeviceLinear;
  readonly value: DeviceLinear;
  readonly output: DeviceLinear;
  readonly mlpNorm: HostNorm;
  readonly fc1: DeviceLinear;
  readonly fc2: DeviceLinear;
}

export interface Checkpoint {
  readonly hiddenSize: number;
  readonly ffnDim: number;
  readonly heads: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly tokens: Float32Array; // [vocab, hidden]
  readonly positions: Float32Array; // [positions + 2, hidden]
  readonly blocks: readonly CheckpointBlock[];
  readonly finalNorm: HostNorm | null;
  readonly logits: DeviceLinear;
  dispose(): void;
}

/** Whether the backward pass is written for the model: a pre-norm OPT without projections around its blocks, as published. */
const isKnown = (config: OptConfig, json: unknown): boolean =>
  config.do_layer_norm_before &&
  config.word_embed_proj_dim === config.hidden_size &&
  (json as { quantization_config?: unknown }).quantization_config === undefined;

async function readConfig(folder: string): Promise<{ json: unknown; file: string }> {
  const file = join(folder, "config.json");
  return { json: JSON.parse(await readFile(file, "utf8")), file };
}

/** Whether there are gradients of the model in `folder`. */
export async function hasGradients(folder: string): Promise<boolean> {
  const { json, file } = await readConfig(folder);
  return (json as { model_type?: unknown }).model_type === "opt" && isKnown(parseOptConfig(json, file), json);
}

/**
 * Reads a pre-norm OPT without projections around its blocks.
 * @throws ConfigError for other models
 */
export async function openCheckpoint(kernels: Kernels, folder: string): Promise<Checkpoint> {
  const { json, file } = await readConfig(folder);
  const config = parseOptConfig(json, file);
  if (!isKnown(config, json))
    throw new ConfigError(
      `${file}: gradients exist for pre-norm models without projections, and weights as published, only`,
    );
  const weights = await openWeights(folder);
  const owned: Tensor[] = [];
  try {
    const read = reader(kernels, weights, owned);
    const blocks: CheckpointBlock[] = [];
    for (let layer = 0; layer < config.num_hidden_layers; layer++) blocks.push(await readBlock(read, layer));
    return {
      hiddenSize: config.hidden_size,
      ffnDim: config.ffn_dim,
      heads: config.num_attention_heads,
      vocabSize: config.vocab_size,
      maxPositions: config.max_position_embeddings,
      tokens: await readMatrix(weights, `${read.prefix}embed_tokens.weight`),
      positions: await readMatrix(weights, `${read.prefix}embed_positions.weight`),
      blocks,
      finalNorm: hasFinalNorm(config) ? await read.norm("final_layer_norm") : null,
      logits: config.tie_word_embeddings
        ? await read.linear("embed_tokens")
        : { weight: await read.matrix("lm_head.weight"), bias: null },
      dispose() {
        for (const tensor of owned) kernels.free(tensor);
      },
    };
  } catch (error) {
    for (const tensor of owned) kernels.free(tensor);
    throw error;
  } finally {
    await weights.close();
  }
}

type Reader = ReturnType<typeof reader>;

function reader(kernels: Kernels, weights: Weights, owned: Tensor[]) {
  const prefix = weights.tensors.has("decoder.embed_tokens.weight") ? "decoder." : "model.decoder.";
  const matrix = async (name: string): Promise<Tensor> => {
    const tensor = kernels.allocate("f32", weights.tensors.get(name)!.shape);
    owned.push(tensor);
    kernels.write(tensor, await readMatrix(weights, name));
    return tensor;
  };
  const optional = <T>(name: string, read: (name: string) => Promise<T>) =>
    weights.tensors.has(name) ? read(name) : Promise.resolve(null);
  return {
    prefix,
    matrix,
    linear: async (name: string): Promise<DeviceLinear> => ({
      weight: await matrix(`${prefix}${name}.weight`),
      bias: await optional(`${prefix}${name}.bias`, matrix),
    }),
    norm: async (name: string): Promise<HostNorm> => ({
      weight: await optional(`${prefix}${name}.weight`, (full) => readMatrix(weights, full)),
      bias: await optional(`${prefix}${name}.bias`, (full) => readMatrix(weights, full)),
    }),
  };
}

async function readBlock(read: Reader, layer: number): Promise<CheckpointBlock> {
  const at = `layers.${layer}.`;
  return {
    attentionNorm: await read.norm(`${at}self_attn_layer_norm`),
    query: await read.linear(`${at}self_attn.q_proj`),
    key: await read.linear(`${at}self_attn.k_proj`),
    value: await read.linear(`${at}self_attn.v_proj`),
    output: await read.linear(`${at}self_attn.out_proj`),
    mlpNorm: await read.norm(`${at}final_layer_norm`),
    fc1: await read.linear(`${at}fc1`),
    fc2: await read.linear(`${at}fc2`),
  };
}

/** OPT's tensors: their names in a checkpoint, their shapes, and their way into memory. */
import type { Kernels } from "../kernels/contract.ts";
import type { BlockWeights, Linear, Norm } from "../layers/block.ts";
import { bytesPerElement, type FloatDtype, hostView, toFloat32, type WeightDtype } from "../tensor/dtype.ts";
import { elementCount, type Tensor } from "../tensor/tensor.ts";
import { WeightsError } from "../util/errors.ts";
import {
  dataAlignment,
  type ExpectedTensor,
  expectTensors,
  type TensorInfo,
  type Weights,
} from "../weights/index.ts";
import {
  type CheckpointTensor,
  type CheckpointTensors,
  dtypeFor,
  preparedName,
  type ReadOptions,
  type Role,
} from "./checkpoint.ts";
import { fillMatrix, matrixSource, weightDtypeOf } from "./matrix-source.ts";
import { hasFinalNorm, type OptConfig } from "./opt-config.ts";

export interface OptWeights {
  readonly embedTokens: Tensor; // [vocab_size, word_embed_proj_dim]
  readonly embedPositions: Tensor; // [max_position_embeddings + 2, hidden_size]
  readonly projectIn: Tensor | null; // [hidden_size, word_embed_proj_dim]
  readonly blocks: readonly BlockWeights[];
  readonly finalNorm: Norm | null;
  readonly projectOut: Tensor | null; // [word_embed_proj_dim, hidden_size]
  readonly output: Tensor; // [vocab_size, word_embed_proj_dim]; the embedding itself where tied
  /** Every tensor above once, for accounting and for freeing. */
  readonly all: readonly Tensor[];
}

/** OPT counts positions from 2: the first two rows of the table belonged to padding. */
export const positionOffset = 2;

/** Checkpoints name tensors with or without a leading `model.`, depending on the class that saved them. */
function findPrefix(weights: Weights): string {
  return weights.tensors.has("decoder.embed_tokens.weight") ? "decoder." : "model.decoder.";
}

/** Every tensor that the config calls for. */
export function optTensors(config: OptConfig, prefix: string): CheckpointTensor[] {
  const { hidden_size: d, ffn_dim: n, word_embed_proj_dim: e, vocab_size: vocab } = config;
  const list: CheckpointTensor[] = [];
  const add = (role: Role, name: string, ...shape: number[]) => list.push({ name, role, shape });
  const linear = (role: Role, name: string, rows: number, columns: number, outputs: number) => {
    add(role, `${name}.weight`, rows, columns);
    if (config.enable_bias) add("vector", `${name}.bias`, outputs);
  };
  const norm = (name: string) => {
    if (!config.layer_norm_elementwise_affine) return;
    add("vector", `${name}.weight`, d);
    add("vector", `${name}.bias`, d);
  };
  add("table", `${prefix}embed_tokens.weight`, vocab, e);
  add("table", `${prefix}embed_positions.weight`, config.max_position_embeddings + positionOffset, d);
  if (e !== d) {
    add("matrix", `${prefix}project_in.weight`, d, e);
    add("matrix", `${prefix}project_out.weight`, e, d);
  }
  if (hasFinalNorm(config)) norm(`${prefix}final_layer_norm`);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const at = `${prefix}layers.${layer}.`;
    for (const name of ["q_proj", "k_proj", "v_proj"]) linear("matrix", `${at}self_attn.${name}`, d, d, d);
    linear("transposed", `${at}self_attn.out_proj`, d, d, d);
    norm(`${at}self_attn_layer_norm`);
    linear("matrix", `${at}fc1`, n, d, n);
    linear("transposed", `${at}fc2`, n, d, d);
    norm(`${at}final_layer_norm`);
  }
  if (!config.tie_word_embeddings) add("table", "lm_head.weight", vocab, e);
  return list;
}

const halves = ["F32", "F16", "BF16"] as const;
const storedAs = { f32: "F32", f16: "F16", bf16: "BF16", int8: "int8", int4: "int4" } as const;

/** @throws WeightsError naming every missing or misshapen tensor */
function checkTensors(weights: Weights, tensors: readonly CheckpointTensor[]): void {
  const { prepared } = weights;
  const expected = tensors.map((tensor): ExpectedTensor => {
    const { name, role, shape } = tensor;
    if (prepared !== null)
      return { name: preparedName(tensor), shape, dtypes: [storedAs[dtypeFor(role, prepared)]] };
    return { name, shape: role === "transposed" ? shape.toReversed() : shape, dtypes: halves };
  });
  expectTensors(weights, expected);
}

/**
 * Checks that the checkpoint holds every tensor the config calls for, and returns a reader of them by their names.
 * Vectors are widened to float32.
 * @throws WeightsError before anything is allocated
 */
export function openOptTensors(
  kernels: Kernels,
  weights: Weights,
  config: OptConfig,
  { dtype, tables, isMapped = true, signal }: ReadOptions = {},
): CheckpointTensors {
  const tensors = optTensors(config, findPrefix(weights));
  checkTensors(weights, tensors);
  const isPrepared = weights.prepared !== null;
  const readVector = async (name: string, shape: readonly number[]): Promise<Tensor> => {
    const kind = weightDtypeOf(weights.tensors.get(name)!) as FloatDtype;
    const bytes = new Uint8Array(elementCount(shape) * bytesPerElement[kind]);
    await weights.read(name, bytes);
    const tensor = kernels.allocate("f32", shape);
    kernels.write(tensor, toFloat32(kind, hostView(kind, bytes.buffer, 0, elementCount(shape))));
    return tensor;
  };
  /** The tensor where it is in the file; null where it is not as it is wanted there. */
  const map = (info: TensorInfo, kind: WeightDtype, shape: readonly number[]): Tensor | null => {
    const isReady =
      isPrepared && isMapped && weightDtypeOf(info) === kind && info.begin % dataAlignment === 0;
    if (!isReady) return null;
    try {
      return kernels.map(kind, shape, info.file, info.begin);
    } catch (cause) {
      const reason = `it cannot be mapped: ${(cause as Error).message}`;
      throw new WeightsError({ file: info.file, tensor: info.name, reason }, { cause });
    }
  };
  const read = async (wanted: CheckpointTensor): Promise<Tensor> => {
    signal?.throwIfAborted();
    const { role, shape } = wanted;
    const name = isPrepared ? preparedName(wanted) : wanted.name;
    const info = weights.tensors.get(name)!;
    const stored = weightDtypeOf(info);
    const asStored = { dtype: stored, tables: tables ?? stored };
    const kind = dtypeFor(role, dtype === undefined ? asStored : { dtype, tables });
    const mapped = map(info, kind, shape);
    if (mapped !== null) return mapped;
    if (role === "vector") return readVector(name, shape);
    const tensor = kernels.allocate(kind, shape);
    const source = matrixSource(weights, name, role === "transposed" && !isPrepared);
    await fillMatrix(kernels, tensor, source, signal);
    return tensor;
  };
  return { tensors, read };
}

/**
 * Reads all weights, one tensor after the other.
 * @throws WeightsError naming every missing or misshapen tensor, before anything is allocated; the signal's reason
 */
export const loadOptWeights = (
  kernels: Kernels,
  weights: Weights,
  config: OptConfig,
  options: ReadOptions = {},
): Promise<OptWeights> =>
  gatherOptWeights(
    config,
    findPrefix(weights),
    openOptTensors(kernels, weights, config, options),
    options.onTensor,
  );

/** Reads all tensors, wherever they come from, and puts them where they belong. */
export async function gatherOptWeights(
  config: OptConfig,
  prefix: string,
  { tensors, read }: CheckpointTensors,
  onTensor: (done: number, total: number) => void = () => {},
): Promise<OptWeights> {
  const made = new Map<string, Tensor>();
  for (const tensor of tensors) {
    made.set(tensor.name, await read(tensor));
    onTensor(made.size, tensors.length);
  }
  const get = (name: string): Tensor => made.get(name)!;
  const optional = (name: string): Tensor | null => made.get(name) ?? null;
  const linear = (name: string): Linear => ({
    weight: get(`${name}.weight`),
    bias: optional(`${name}.bias`),
  });
  const norm = (name: string): Norm => ({
    weight: optional(`${name}.weight`),
    bias: optional(`${name}.bias`),
  });
  const block = (layer: number): BlockWeights => {
    const at = `${prefix}layers.${layer}.`;
    return {
      attentionNorm: norm(`${at}self_attn_layer_norm`),
      query: linear(`${at}self_attn.q_proj`),
      key: linear(`${at}self_attn.k_proj`),
      value: linear(`${at}self_attn.v_proj`),
      outputTransposed: linear(`${at}self_attn.out_proj`),
      mlpNorm: norm(`${at}final_layer_norm`),
      fc1: linear(`${at}fc1`),
      fc2Transposed: linear(`${at}fc2`),
    };
  };
  const embedTokens = get(`${prefix}embed_tokens.weight`);
  return {
    embedTokens,
    embedPositions: get(`${prefix}embed_positions.weight`),
    projectIn: optional(`${prefix}project_in.weight`),
    blocks: Array.from({ length: config.num_hidden_layers }, (_, layer) => block(layer)),
    finalNorm: hasFinalNorm(config) ? norm(`${prefix}final_layer_norm`) : null,
    projectOut: optional(`${prefix}project_out.weight`),
    output: config.tie_word_embeddings ? embedTokens : get("lm_head.weight"),
    all: [...made.values()],
  };
}

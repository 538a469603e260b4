/** OPT's tensors: their names in a checkpoint, their shapes, and their way into memory. */
import type { Kernels } from "../kernels/contract.ts";
import type { BlockWeights, Linear, Norm } from "../layers/block.ts";
import { bytesPerElement, type FloatDtype, hostView, toFloat32 } from "../tensor/dtype.ts";
import { elementCount, type Tensor } from "../tensor/tensor.ts";
import { expectTensors, type Weights } from "../weights/index.ts";
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

interface Expected {
  name: string;
  shape: number[];
  dtypes: ("F32" | "F16" | "BF16")[];
}

const floatDtypes: Record<string, FloatDtype> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** Checkpoints name tensors with or without a leading `model.`, depending on the class that saved them. */
function findPrefix(weights: Weights): string {
  return weights.tensors.has("decoder.embed_tokens.weight") ? "decoder." : "model.decoder.";
}

function expectedTensors(config: OptConfig, prefix: string): Expected[] {
  const { hidden_size: d, ffn_dim: n, word_embed_proj_dim: e, vocab_size: vocab } = config;
  const list: Expected[] = [];
  const add = (name: string, ...shape: number[]) =>
    list.push({ name, shape, dtypes: ["F32", "F16", "BF16"] });
  const linear = (name: string, out: number, into: number) => {
    add(`${name}.weight`, out, into);
    if (config.enable_bias) add(`${name}.bias`, out);
  };
  const norm = (name: string) => {
    if (!config.layer_norm_elementwise_affine) return;
    add(`${name}.weight`, d);
    add(`${name}.bias`, d);
  };
  add(`${prefix}embed_tokens.weight`, vocab, e);
  add(`${prefix}embed_positions.weight`, config.max_position_embeddings + positionOffset, d);
  if (e !== d) {
    add(`${prefix}project_in.weight`, d, e);
    add(`${prefix}project_out.weight`, e, d);
  }
  if (hasFinalNorm(config)) norm(`${prefix}final_layer_norm`);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const at = `${prefix}layers.${layer}.`;
    for (const name of ["q_proj", "k_proj", "v_proj", "out_proj"]) linear(`${at}self_attn.${name}`, d, d);
    norm(`${at}self_attn_layer_norm`);
    linear(`${at}fc1`, n, d);
    linear(`${at}fc2`, d, n);
    norm(`${at}final_layer_norm`);
  }
  if (!config.tie_word_embeddings) add("lm_head.weight", vocab, e);
  return list;
}

/** dst[c, r] = src[r, c] for elements of 2 or 4 bytes, in tiles that stay in the cache. */
function transposeElements<T extends Uint16Array | Uint32Array>(
  dst: T,
  src: T,
  rows: number,
  columns: number,
): void {
  const tile = 32;
  for (let r0 = 0; r0 < rows; r0 += tile)
    for (let c0 = 0; c0 < columns; c0 += tile)
      for (let c = c0; c < Math.min(c0 + tile, columns); c++)
        for (let r = r0; r < Math.min(r0 + tile, rows); r++) dst[c * rows + r] = src[r * columns + c]!;
}

/**
 * Checks that the checkpoint holds every tensor the config calls for, then reads them one by one.
 * Matrices keep their dtype; vectors are widened to float32.
 * @throws WeightsError naming every missing or misshapen tensor, before anything is allocated
 */
export async function loadOptWeights(
  kernels: Kernels,
  weights: Weights,
  config: OptConfig,
  onTensor: (done: number, total: number) => void,
): Promise<OptWeights> {
  const prefix = findPrefix(weights);
  const expected = expectedTensors(config, prefix);
  expectTensors(weights, expected);
  const all: Tensor[] = [];
  const keep = (tensor: Tensor): Tensor => {
    all.push(tensor);
    onTensor(all.length, expected.length);
    return tensor;
  };
  const host = async (name: string) => {
    const { shape, dtype } = weights.tensors.get(name)!;
    const kind = floatDtypes[dtype]!;
    const bytes = new Uint8Array(elementCount(shape) * bytesPerElement[kind]);
    await weights.read(name, bytes);
    return { kind, shape, bytes };
  };
  const matrix = async (name: string): Promise<Tensor> => {
    const { shape, dtype } = weights.tensors.get(name)!;
    const tensor = kernels.allocate(floatDtypes[dtype]!, shape);
    await kernels.upload(tensor, (bytes) => weights.read(name, bytes));
    return keep(tensor);
  };
  const transposed = async (name: string): Promise<Tensor> => {
    const { kind, shape, bytes } = await host(name);
    const [rows, columns] = shape as [number, number];
    const tensor = kernels.allocate(kind, [columns, rows]);
    const View = kind === "f32" ? Uint32Array : Uint16Array;
    await kernels.upload(tensor, (into) => {
      const dst = new View(into.buffer as ArrayBuffer, into.byteOffset, rows * columns);
      transposeElements(dst, new View(bytes.buffer, 0, rows * columns), rows, columns);
    });
    return keep(tensor);
  };
  const vector = async (name: string): Promise<Tensor> => {
    const { kind, shape, bytes } = await host(name);
    const tensor = kernels.allocate("f32", shape);
    kernels.write(tensor, toFloat32(kind, hostView(kind, bytes.buffer, 0, elementCount(shape))));
    return keep(tensor);
  };
  const linear = async (name: string, read = matrix): Promise<Linear> => ({
    weight: await read(`${name}.weight`),
    bias: config.enable_bias ? await vector(`${name}.bias`) : null,
  });
  const norm = async (name: string): Promise<Norm> => ({
    weight: config.layer_norm_elementwise_affine ? await vector(`${name}.weight`) : null,
    bias: config.layer_norm_elementwise_affine ? await vector(`${name}.bias`) : null,
  });
  const block = async (layer: number): Promise<BlockWeights> => {
    const at = `${prefix}layers.${layer}.`;
    return {
      attentionNorm: await norm(`${at}self_attn_layer_norm`),
      query: await linear(`${at}self_attn.q_proj`),
      key: await linear(`${at}self_attn.k_proj`),
      value: await linear(`${at}self_attn.v_proj`),
      outputTransposed: await linear(`${at}self_attn.out_proj`, transposed),
      mlpNorm: await norm(`${at}final_layer_norm`),
      fc1: await linear(`${at}fc1`),
      fc2Transposed: await linear(`${at}fc2`, transposed),
    };
  };

  const projected = config.word_embed_proj_dim !== config.hidden_size;
  const embedTokens = await matrix(`${prefix}embed_tokens.weight`);
  const embedPositions = await matrix(`${prefix}embed_positions.weight`);
  const projectIn = projected ? await matrix(`${prefix}project_in.weight`) : null;
  const projectOut = projected ? await matrix(`${prefix}project_out.weight`) : null;
  const finalNorm = hasFinalNorm(config) ? await norm(`${prefix}final_layer_norm`) : null;
  const blocks: BlockWeights[] = [];
  for (let layer = 0; layer < config.num_hidden_layers; layer++) blocks.push(await block(layer));
  const output = config.tie_word_embeddings ? embedTokens : await matrix("lm_head.weight");
  return { embedTokens, embedPositions, projectIn, blocks, finalNorm, projectOut, output, all };
}

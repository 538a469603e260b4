/** Tiny random OPT checkpoints of every variant, written as a folder in Hugging Face's layout. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRng } from "../../src/sampling/rng.ts";
import { type FloatDtype, fromFloat32, toFloat32 } from "../../src/tensor/dtype.ts";
import { elementCount } from "../../src/tensor/tensor.ts";
import { writeSafetensors } from "../../src/weights/index.ts";

export interface Variant {
  hidden_size: number;
  ffn_dim: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  vocab_size: number;
  max_position_embeddings: number;
  word_embed_proj_dim: number;
  do_layer_norm_before: boolean;
  _remove_final_layer_norm: boolean;
  enable_bias: boolean;
  layer_norm_elementwise_affine: boolean;
  tie_word_embeddings: boolean;
}

export const plain: Variant = {
  hidden_size: 24,
  ffn_dim: 52,
  num_hidden_layers: 3,
  num_attention_heads: 3,
  vocab_size: 37,
  max_position_embeddings: 90,
  word_embed_proj_dim: 24,
  do_layer_norm_before: true,
  _remove_final_layer_norm: false,
  enable_bias: true,
  layer_norm_elementwise_affine: true,
  tie_word_embeddings: true,
};

export const variants: Readonly<Record<string, Variant>> = {
  "pre-norm, tied (125m and 1.3b up)": plain,
  "post-norm with projections (350m)": { ...plain, do_layer_norm_before: false, word_embed_proj_dim: 10 },
  "pre-norm with projections, untied": { ...plain, word_embed_proj_dim: 10, tie_word_embeddings: false },
  "untied output": { ...plain, tie_word_embeddings: false },
  "no biases, no affine norms": { ...plain, enable_bias: false, layer_norm_elementwise_affine: false },
  "final norm removed": { ...plain, _remove_final_layer_norm: true },
};

export type Tensors = Map<string, { shape: number[]; values: Float32Array }>;

function shapes(v: Variant): [string, number[]][] {
  const { hidden_size: d, ffn_dim: n, word_embed_proj_dim: e } = v;
  const list: [string, number[]][] = [
    ["model.decoder.embed_tokens.weight", [v.vocab_size, e]],
    ["model.decoder.embed_positions.weight", [v.max_position_embeddings + 2, d]],
  ];
  const linear = (name: string, out: number, into: number) => {
    list.push([`${name}.weight`, [out, into]]);
    if (v.enable_bias) list.push([`${name}.bias`, [out]]);
  };
  const norm = (name: string) => {
    if (v.layer_norm_elementwise_affine) list.push([`${name}.weight`, [d]], [`${name}.bias`, [d]]);
  };
  if (e !== d) {
    list.push(["model.decoder.project_in.weight", [d, e]], ["model.decoder.project_out.weight", [e, d]]);
  }
  if (v.do_layer_norm_before && !v._remove_final_layer_norm) norm("model.decoder.final_layer_norm");
  for (let l = 0; l < v.num_hidden_layers; l++) {
    const at = `model.decoder.layers.${l}`;
    for (const name of ["q_proj", "k_proj", "v_proj", "out_proj"]) linear(`${at}.self_attn.${name}`, d, d);
    norm(`${at}.self_attn_layer_norm`);
    linear(`${at}.fc1`, n, d);
    linear(`${at}.fc2`, d, n);
    norm(`${at}.final_layer_norm`);
  }
  if (!v.tie_word_embeddings) list.push(["lm_head.weight", [v.vocab_size, e]]);
  return list;
}

const stored = { f32: "F32", f16: "F16", bf16: "BF16" } as const;

/** Writes config.json and model.safetensors; returns the weights as they were stored, widened to float32. */
export async function writeRandomCheckpoint(
  folder: string,
  variant: Variant,
  dtype: FloatDtype,
  seed = 1,
): Promise<Tensors> {
  const rng = createRng(seed);
  const tensors: Tensors = new Map();
  const data = shapes(variant).map(([name, shape]) => {
    const isNormWeight = name.endsWith("norm.weight");
    const random = Float32Array.from(
      { length: elementCount(shape) },
      () => (rng.next() - 0.5) * 0.8 + (isNormWeight ? 1 : 0),
    );
    const bits = fromFloat32(dtype, random);
    tensors.set(name, { shape, values: Float32Array.from(toFloat32(dtype, bits)) });
    const bytes = new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
    return { name, dtype: stored[dtype], shape, data: bytes };
  });
  mkdirSync(folder, { recursive: true });
  const config = { model_type: "opt", activation_function: "relu", ...variant };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  await writeSafetensors(join(folder, "model.safetensors"), data);
  return tensors;
}

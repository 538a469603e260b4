/** The published sizes of OPT (Zhang et al. 2022, table 1; Hugging Face's configs), for timing without their weights. */
import { type OptConfig, parseOptConfig } from "./opt-config.ts";

/** hidden_size, num_hidden_layers, num_attention_heads; ffn_dim is four times hidden_size. */
const sizes = {
  "opt-125m": [768, 12, 12],
  "opt-1.3b": [2048, 24, 32],
  "opt-2.7b": [2560, 32, 32],
  "opt-6.7b": [4096, 32, 32],
  "opt-13b": [5120, 40, 40],
  "opt-30b": [7168, 48, 56],
  "opt-66b": [9216, 64, 72],
} as const;

export type OptShapeName = keyof typeof sizes;
export const optShapeNames = Object.keys(sizes) as OptShapeName[];

/** @param layers fewer (or more) blocks than published */
export function optShape(name: OptShapeName, layers?: number): OptConfig {
  const [hiddenSize, published, heads] = sizes[name];
  const json = {
    model_type: "opt",
    hidden_size: hiddenSize,
    ffn_dim: 4 * hiddenSize,
    num_hidden_layers: layers ?? published,
    num_attention_heads: heads,
    vocab_size: 50272,
    max_position_embeddings: 2048,
  };
  return parseOptConfig(json, name);
}

/** Number of blocks that the published model has. */
export const publishedLayers = (name: OptShapeName): number => sizes[name][1];

/** OPT's config.json, as Hugging Face publishes it from 125m to 175b. */
import { z } from "zod";
import { ConfigError } from "../util/errors.ts";

const size = (max: number) => z.int().min(1).max(max);

/** Upper bounds are an order of magnitude above OPT-175B: they stop nonsense before any memory is asked for. */
const schema = z.object({
  model_type: z.literal("opt"),
  activation_function: z
    .literal("relu", "only ReLU models are sparse in the way this engine needs")
    .default("relu"),
  hidden_size: size(262144),
  ffn_dim: size(1048576),
  num_hidden_layers: size(1024),
  num_attention_heads: size(4096),
  vocab_size: size(4194304),
  max_position_embeddings: size(1048576),
  word_embed_proj_dim: size(262144).optional(),
  do_layer_norm_before: z.boolean().default(true),
  _remove_final_layer_norm: z.boolean().default(false),
  enable_bias: z.boolean().default(true),
  layer_norm_elementwise_affine: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(true),
});

export type OptConfig = z.infer<typeof schema> & { readonly word_embed_proj_dim: number };

/**
 * Checks a parsed config.json.
 * @param file named in errors
 * @throws ConfigError naming the file, the field and its value
 */
export function parseOptConfig(json: unknown, file: string): OptConfig {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const given = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown>)?.[key], json);
    throw new ConfigError(
      `${file}: ${issue.path.join(".") || "content"} is ${JSON.stringify(given)}: ${issue.message}`,
    );
  }
  const config = {
    ...parsed.data,
    word_embed_proj_dim: parsed.data.word_embed_proj_dim ?? parsed.data.hidden_size,
  };
  if (config.hidden_size % config.num_attention_heads !== 0)
    throw new ConfigError(
      `${file}: hidden_size ${config.hidden_size} is not a multiple of num_attention_heads ${config.num_attention_heads}`,
    );
  return config;
}

/** Post-norm models (350m) have no norm after the last block, and some exports removed it. */
export function hasFinalNorm(config: OptConfig): boolean {
  return config.do_layer_norm_before && !config._remove_final_layer_norm;
}

/** The checkpoint for transformers.js: a model folder as it is laid out on a hub. */
import { basename, join } from "node:path";
import type { Format } from "../formats.ts";
import type { Shape } from "../shapes.ts";
import { tensorAlignment } from "./decoder-graph.ts";
import { randomTensor } from "./elements.ts";
import { type PatientFile, writeFile } from "./file.ts";
import { encodeModel } from "./onnx.ts";
import { OptGraph } from "./opt-graph.ts";

/** Formats as transformers.js calls them, and the ends of the file names that it looks for. */
export const onnxDtypes = { int4: "q4", q8: "q8", f16: "fp16" } as const satisfies Record<Format, string>;
const suffixes: Record<Format, string> = { int4: "_q4", q8: "_quantized", f16: "_fp16" };

/** The model's file in a folder; it is the last that is written, so it stands for all. */
export const modelFile = (folder: string, format: Format): string =>
  join(folder, "onnx", `model${suffixes[format]}.onnx`);

export interface OnnxPlan {
  readonly bytesPerToken: number;
  readonly fileBytes: number;
}

/** What `writeOpt` would write. */
export function planOpt(shape: Shape, format: Format): OnnxPlan {
  const graph = new OptGraph(shape, format);
  const model = encodeModel(graph.build(), "data");
  const { bytesPerToken, dataBytes } = graph.builder;
  // ONNX Runtime has no half-precision product on x64: it widens the weights to f32 when it loads them.
  return { bytesPerToken: bytesPerToken * (format === "f16" ? 2 : 1), fileBytes: model.length + dataBytes };
}

const config = ({ hidden, ffn, layers, heads, vocab, positions }: Shape) => ({
  model_type: "opt",
  architectures: ["OPTForCausalLM"],
  activation_function: "relu",
  do_layer_norm_before: true,
  hidden_size: hidden,
  word_embed_proj_dim: hidden,
  ffn_dim: ffn,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  vocab_size: vocab,
  max_position_embeddings: positions,
  bos_token_id: 2,
  eos_token_id: 2,
  pad_token_id: 1,
  "transformers.js_config": { use_external_data_format: true },
});

/** A model folder: config.json, onnx/model_….onnx and its data file. */
export async function writeOpt(
  folder: string,
  shape: Shape,
  format: Format,
  signal?: AbortSignal,
): Promise<void> {
  const graph = new OptGraph(shape, format);
  const built = graph.build();
  const model = modelFile(folder, format);
  const writeData = async (file: PatientFile) => {
    for (const { elementType, elements } of graph.builder.weights) {
      await file.align(tensorAlignment);
      for (const piece of randomTensor(elementType, elements)) await file.write(piece);
    }
  };
  await writeFile(`${model}_data`, writeData, signal);
  await writeFile(join(folder, "config.json"), (file) =>
    file.write(Buffer.from(JSON.stringify(config(shape)))),
  );
  await writeFile(model, (file) => file.write(encodeModel(built, `${basename(model)}_data`)));
}

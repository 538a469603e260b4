/**
 * The checkpoint for node-llama-cpp. llama.cpp has no OPT; its `gpt2` is the nearest that it has: learned positions,
 * layer norms before both halves, biases everywhere, two matrices in the MLP, the output tied to the embedding. What
 * differs: GELU in place of ReLU, and the three projections of attention are one matrix. Bytes and products are equal.
 */
import type { Format } from "../formats.ts";
import type { Shape } from "../shapes.ts";
import { bytesOf } from "./elements.ts";
import {
  elementsOf,
  type GgufElement,
  type GgufTensor,
  type GgufValue,
  ggufBytes,
  writeGguf,
} from "./gguf.ts";

const matrixTypes: Record<Format, GgufElement> = { int4: "q4_0", f16: "f16", q8: "q8_0" };
/** llama.cpp's numbers for "mostly this format". */
const fileTypes: Record<Format, number> = { int4: 2, f16: 1, q8: 7 };

/** Every matrix, the embedding too, is in the format; vectors and positions are f32, as llama.cpp's converter leaves them. */
export function gpt2Tensors(shape: Shape, format: Format): GgufTensor[] {
  const { hidden, ffn, layers, vocab, positions } = shape;
  const tensors: GgufTensor[] = [];
  const add = (name: string, type: GgufElement, ...dimensions: number[]) =>
    tensors.push({ name, type, dimensions });
  const matrix = (name: string, from: number, to: number) => {
    add(`${name}.weight`, matrixTypes[format], from, to);
    add(`${name}.bias`, "f32", to);
  };
  const norm = (name: string) => {
    add(`${name}.weight`, "gain", hidden);
    add(`${name}.bias`, "f32", hidden);
  };
  add("token_embd.weight", matrixTypes[format], hidden, vocab);
  add("position_embd.weight", "f32", hidden, positions);
  for (let block = 0; block < layers; block++) {
    norm(`blk.${block}.attn_norm`);
    matrix(`blk.${block}.attn_qkv`, hidden, 3 * hidden);
    matrix(`blk.${block}.attn_output`, hidden, hidden);
    norm(`blk.${block}.ffn_norm`);
    matrix(`blk.${block}.ffn_up`, hidden, ffn);
    matrix(`blk.${block}.ffn_down`, ffn, hidden);
  }
  norm("output_norm");
  return tensors;
}

/** Bytes of weights that one token reads: all but the positions (one row). The tied embedding is read as the output. */
export function gpt2BytesPerToken(shape: Shape, format: Format): number {
  let bytes = 0;
  for (const tensor of gpt2Tensors(shape, format))
    bytes += bytesOf(tensor.type, tensor.name === "position_embd.weight" ? shape.hidden : elementsOf(tensor));
  return bytes;
}

/** A vocabulary of the right size: the 256 bytes as GPT-2 spells them, then made-up words. No text is encoded with it. */
function vocabulary(size: number): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let unprintable = 256;
  const bytes = Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(printable(byte) ? byte : unprintable++),
  );
  return Array.from({ length: size }, (_, id) => (id < 256 ? bytes[id]! : `<w${id}>`));
}

function gpt2Metadata(shape: Shape, format: Format): Map<string, GgufValue> {
  const { hidden, ffn, layers, heads, vocab, positions } = shape;
  const u32 = (value: number): GgufValue => ({ type: "u32", value });
  const text = (value: string): GgufValue => ({ type: "string", value });
  return new Map<string, GgufValue>([
    ["general.architecture", text("gpt2")],
    ["general.name", text(`random ${shape.name}`)],
    ["general.file_type", u32(fileTypes[format])],
    ["gpt2.context_length", u32(positions)],
    ["gpt2.embedding_length", u32(hidden)],
    ["gpt2.feed_forward_length", u32(ffn)],
    ["gpt2.block_count", u32(layers)],
    ["gpt2.attention.head_count", u32(heads)],
    ["gpt2.attention.layer_norm_epsilon", { type: "f32", value: 1e-5 }],
    ["tokenizer.ggml.model", text("gpt2")],
    ["tokenizer.ggml.pre", text("gpt-2")],
    ["tokenizer.ggml.tokens", { type: "strings", value: vocabulary(vocab) }],
    ["tokenizer.ggml.token_type", { type: "i32s", value: new Int32Array(vocab).fill(1) }],
    ["tokenizer.ggml.merges", { type: "strings", value: ["a b"] }],
    ["tokenizer.ggml.bos_token_id", u32(vocab - 1)],
    ["tokenizer.ggml.eos_token_id", u32(vocab - 1)],
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: false }],
  ]);
}

export function gpt2FileBytes(shape: Shape, format: Format): number {
  return ggufBytes(gpt2Metadata(shape, format), gpt2Tensors(shape, format));
}

export function writeGpt2(path: string, shape: Shape, format: Format, signal?: AbortSignal): Promise<void> {
  return writeGguf(path, gpt2Metadata(shape, format), gpt2Tensors(shape, format), signal);
}

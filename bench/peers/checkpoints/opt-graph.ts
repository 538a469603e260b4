/** OPT as a graph of ONNX, in the form that exporters for transformers.js write a decoder with past keys and values. */
import { blockSize, type Format } from "../formats.ts";
import type { Shape } from "../shapes.ts";
import { GraphBuilder } from "./decoder-graph.ts";
import type { Graph, Port } from "./onnx.ts";

/** Products of bytes: the fastest way that ONNX Runtime has for these matrices on a CPU. */
const accuracyLevel = 4;
/** OPT leaves the first two rows of its table of positions unused. */
const positionOffset = 2;
const norm = { epsilon: { float: 1e-5 } };

/**
 * One model in one format. Matrices are `MatMulNBits` (blocks of 32, one f32 scale each, symmetric, products of bytes) or
 * half-precision `MatMul`; attention is `GroupQueryAttention` over packed projections; norms are joined with the residual
 * (`SkipLayerNormalization`); and the output layer sees only the positions that `num_logits_to_keep` asks for.
 */
export class OptGraph {
  readonly builder = new GraphBuilder();
  readonly #shape: Shape;
  readonly #format: Format;

  constructor(shape: Shape, format: Format) {
    this.#shape = shape;
    this.#format = format;
  }

  get #half(): boolean {
    return this.#format === "f16";
  }

  #vector(name: string, size: number): string {
    return this.builder.weight(name, this.#half ? "f16" : "f32", [size]);
  }

  #gain(name: string): string {
    return this.builder.weight(name, this.#half ? "gainHalf" : "gain", [this.#shape.hidden]);
  }

  #table(name: string, rows: number): string {
    return this.builder.weight(name, this.#half ? "f16" : "f32", [rows, this.#shape.hidden], "row");
  }

  /** `input` [.., from] times a matrix [from, to], plus a bias. */
  #linear(name: string, input: string, from: number, to: number, hasBias = true): string {
    const b = this.builder;
    if (this.#half) {
      const product = b.node(
        "MatMul",
        [input, b.weight(`${name}.weight`, "f16", [from, to])],
        `${name}.product`,
      );
      return hasBias ? b.node("Add", [product, this.#vector(`${name}.bias`, to)], `${name}.output`) : product;
    }
    const bits = this.#format === "int4" ? 4 : 8;
    const blocks = from / blockSize;
    const weight = b.weight(`${name}.weight`, "u8", [to, blocks, (blockSize * bits) / 8]);
    const scales = b.weight(`${name}.scales`, bits === 4 ? "nibbleScale" : "byteScale", [to * blocks]);
    const bias = hasBias ? ["", "", this.#vector(`${name}.bias`, to)] : [];
    const attributes = { K: from, N: to, bits, block_size: blockSize, accuracy_level: accuracyLevel };
    return b.node(
      "MatMulNBits",
      [input, weight, scales, ...bias],
      `${name}.output`,
      attributes,
      "com.microsoft",
    );
  }

  /** x + addend, normalised; the sum goes on as the residual. */
  #skipNorm(name: string, x: string, addend: string): { normed: string; sum: string } {
    const sum = `${name}.sum`;
    const inputs = [
      x,
      addend,
      this.#gain(`${name}.weight`),
      this.#vector(`${name}.bias`, this.#shape.hidden),
    ];
    const outputs = [`${name}.output`, "", "", sum];
    const normed = this.builder.node("SkipLayerNormalization", inputs, outputs, norm, "com.microsoft");
    return { normed, sum };
  }

  #embed(): string {
    const { vocab, positions } = this.#shape;
    const b = this.builder;
    const tokens = b.node("Gather", [this.#table("embed_tokens", vocab), "input_ids"], "tokens");
    const shifted = b.node(
      "Add",
      ["position_ids", b.integers("position_offset", [positionOffset])],
      "shifted",
    );
    const places = b.node(
      "Gather",
      [this.#table("embed_positions", positions + positionOffset), shifted],
      "places",
    );
    return b.node("Add", [tokens, places], "embedded");
  }

  /** From the mask: the index of the last token, and how many there are, as `GroupQueryAttention` wants them. */
  #lengths(): void {
    const b = this.builder;
    const sums = b.node("ReduceSum", ["attention_mask", b.integers("axis_1", [1])], "mask_sums", {
      keepdims: 0,
    });
    const last = b.node("Sub", [sums, b.integers("one", [1])], "last_index");
    b.node("Cast", [last], "seqlens_k", { to: 6 });
    const shape = b.node("Shape", ["attention_mask"], "mask_shape");
    const total = b.node("Gather", [shape, b.integers("index_1", [1], "i64", true)], "total_i64", {
      axis: 0,
    });
    b.node("Cast", [total], "total_sequence_length", { to: 6 });
  }

  #attention(block: number, input: string): string {
    const { hidden, heads } = this.#shape;
    const qkv = this.#linear(`layers.${block}.qkv`, input, hidden, 3 * hidden);
    const past = [`past_key_values.${block}.key`, `past_key_values.${block}.value`];
    const present = [`present.${block}.key`, `present.${block}.value`];
    const attended = this.builder.node(
      "GroupQueryAttention",
      [qkv, "", "", ...past, "seqlens_k", "total_sequence_length"],
      [`layers.${block}.attended`, ...present],
      { num_heads: heads, kv_num_heads: heads, do_rotary: 0 },
      "com.microsoft",
    );
    return this.#linear(`layers.${block}.out_proj`, attended, hidden, hidden);
  }

  #mlp(block: number, input: string): string {
    const { hidden, ffn } = this.#shape;
    const inner = this.#linear(`layers.${block}.fc1`, input, hidden, ffn);
    const active = this.builder.node("Relu", [inner], `layers.${block}.active`);
    return this.#linear(`layers.${block}.fc2`, active, ffn, hidden);
  }

  /** Only the last `num_logits_to_keep` positions, or all for 0. */
  #logits(input: string): void {
    const { hidden, vocab } = this.#shape;
    const b = this.builder;
    const count = b.node("Neg", ["num_logits_to_keep"], "minus_count");
    const starts = b.node("Reshape", [count, b.integers("to_vector", [1])], "starts");
    const ends = b.integers("to_the_end", [Number.MAX_SAFE_INTEGER]);
    const kept = b.node("Slice", [input, starts, ends, "axis_1"], "kept");
    b.node("Identity", [this.#linear("lm_head", kept, hidden, vocab, false)], "logits");
  }

  build(): Graph {
    const { hidden, layers } = this.#shape;
    this.#lengths();
    let residual = this.#embed();
    const first = [
      residual,
      this.#gain("layers.0.norm1.weight"),
      this.#vector("layers.0.norm1.bias", hidden),
    ];
    let normed = this.builder.node("LayerNormalization", first, "layers.0.norm1.output", norm);
    for (let block = 0; block < layers; block++) {
      const middle = this.#skipNorm(`layers.${block}.norm2`, residual, this.#attention(block, normed));
      const next = block + 1 < layers ? `layers.${block + 1}.norm1` : "final_norm";
      const end = this.#skipNorm(next, middle.sum, this.#mlp(block, middle.normed));
      [residual, normed] = [end.sum, end.normed];
    }
    this.#logits(normed);
    return this.builder.finish(...this.#ports());
  }

  #ports(): [inputs: Port[], outputs: Port[]] {
    const { layers, heads, hidden, vocab } = this.#shape;
    const type = this.#half ? "f16" : "f32";
    const cache = (prefix: string, length: string): Port[] =>
      Array.from({ length: layers }, (_, block) =>
        ["key", "value"].map((kind) => `${prefix}.${block}.${kind}`),
      )
        .flat()
        .map((name) => ({ name, type, dimensions: ["batch_size", heads, length, hidden / heads] }));
    const ids = (name: string, length: string): Port => ({
      name,
      type: "i64",
      dimensions: ["batch_size", length],
    });
    const inputs: Port[] = [
      ids("input_ids", "sequence_length"),
      ids("attention_mask", "total_sequence_length"),
      ids("position_ids", "sequence_length"),
      { name: "num_logits_to_keep", type: "i64", dimensions: [] },
    ];
    const logits: Port = { name: "logits", type, dimensions: ["batch_size", "kept_length", vocab] };
    return [
      [...inputs, ...cache("past_key_values", "past_sequence_length")],
      [logits, ...cache("present", "total_sequence_length")],
    ];
  }
}

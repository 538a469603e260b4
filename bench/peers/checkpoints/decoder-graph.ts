/** Builds the graph of a model and lays its weights out: the names, the places in the data file, the bytes per token. */
import { bytesOf, type ElementType } from "./elements.ts";
import type { Attribute, DataType, Graph, LargeConstant, Node, Port, SmallConstant } from "./onnx.ts";

/** ONNX Runtime maps the data file; pages keep the tensors apart. */
export const tensorAlignment = 4096;

/** What is written at a large constant's place. */
export interface Weight extends LargeConstant {
  readonly elementType: ElementType;
  readonly elements: number;
}

const storedAs = (type: ElementType): DataType => {
  if (type === "u8") return "u8";
  return type === "f16" || type === "gainHalf" ? "f16" : "f32";
};

export class GraphBuilder {
  readonly #nodes: Node[] = [];
  readonly #small: SmallConstant[] = [];
  readonly weights: Weight[] = [];
  /** Bytes of all weights that one token reads. */
  bytesPerToken = 0;
  /** Bytes of the data file. */
  dataBytes = 0;

  /** A weight of the data file. A token reads all of it, or one row. */
  weight(
    name: string,
    elementType: ElementType,
    dimensions: readonly number[],
    read: "all" | "row" = "all",
  ): string {
    const elements = dimensions.reduce((product, n) => product * n, 1);
    const length = bytesOf(elementType, elements);
    const offset = Math.ceil(this.dataBytes / tensorAlignment) * tensorAlignment;
    this.weights.push({
      name,
      type: storedAs(elementType),
      dimensions,
      offset,
      length,
      elementType,
      elements,
    });
    this.bytesPerToken += read === "all" ? length : length / dimensions[0]!;
    this.dataBytes = offset + length;
    return name;
  }

  integers(name: string, values: readonly number[], type: "i64" | "i32" = "i64", scalar = false): string {
    const bytes = type === "i64" ? new BigInt64Array(values.map(BigInt)) : new Int32Array(values);
    const dimensions = scalar ? [] : [values.length];
    this.#small.push({ name, type, dimensions, bytes: new Uint8Array(bytes.buffer) });
    return name;
  }

  /** Adds a node and returns the name of its first output. */
  node(
    type: string,
    inputs: readonly string[],
    outputs: string | readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain: Node["domain"] = "",
  ): string {
    const names = typeof outputs === "string" ? [outputs] : outputs;
    this.#nodes.push({ type, inputs, outputs: names, attributes, domain });
    return names[0]!;
  }

  finish(inputs: readonly Port[], outputs: readonly Port[]): Graph {
    return { nodes: this.#nodes, inputs, outputs, small: this.#small, large: this.weights };
  }
}

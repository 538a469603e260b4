/** Writes ONNX models: the messages of onnx.proto that a decoder needs, by their field numbers. */
import { bytesField, floatField, integerField, message } from "./protobuf.ts";

/** Numbers of TensorProto.DataType. */
export const dataTypes = { f32: 1, u8: 2, i32: 6, i64: 7, f16: 10 } as const;
export type DataType = keyof typeof dataTypes;

export type Attribute = number | { readonly float: number } | { readonly text: string };

export interface Node {
  readonly type: string;
  /** Empty strings stand for inputs that are left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** "" for ONNX's own operators. */
  readonly domain?: "" | "com.microsoft";
}

/** An input or output; a dimension with a name may vary. */
export interface Port {
  readonly name: string;
  readonly type: DataType;
  readonly dimensions: readonly (number | string)[];
}

interface Constant {
  readonly name: string;
  readonly type: DataType;
  readonly dimensions: readonly number[];
}
/** A constant of few elements, kept in the model itself. */
export interface SmallConstant extends Constant {
  readonly bytes: Uint8Array;
}
/** A constant that lies in a file beside the model. */
export interface LargeConstant extends Constant {
  readonly offset: number;
  readonly length: number;
}

export interface Graph {
  readonly nodes: readonly Node[];
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly small: readonly SmallConstant[];
  readonly large: readonly LargeConstant[];
}

/** Versions of the formats: of the file, of ONNX's operators, of the additions of ONNX Runtime. */
const fileVersion = 10;
const operatorVersions = { "": 21, "com.microsoft": 1 } as const;

const attributeTypes = { float: 1, integer: 2, text: 3 } as const;

function encodeAttribute([name, value]: [string, Attribute]): Buffer {
  const named = (type: keyof typeof attributeTypes, field: Buffer) =>
    message(bytesField(1, name), field, integerField(20, attributeTypes[type]));
  if (typeof value === "number") return named("integer", integerField(3, value));
  if ("float" in value) return named("float", floatField(2, value.float));
  return named("text", bytesField(4, value.text));
}

const encodeNode = (node: Node, index: number) =>
  message(
    ...node.inputs.map((input) => bytesField(1, input)),
    ...node.outputs.map((output) => bytesField(2, output)),
    bytesField(3, `${node.type}_${index}`),
    bytesField(4, node.type),
    ...Object.entries(node.attributes ?? {}).map((entry) => bytesField(5, encodeAttribute(entry))),
    ...(node.domain ? [bytesField(7, node.domain)] : []),
  );

function encodePort({ name, type, dimensions }: Port): Buffer {
  const dimension = (size: number | string) =>
    bytesField(1, typeof size === "number" ? integerField(1, size) : bytesField(2, size));
  const shape = message(...dimensions.map(dimension));
  const tensor = message(integerField(1, dataTypes[type]), bytesField(2, shape));
  return message(bytesField(1, name), bytesField(2, bytesField(1, tensor)));
}

const constantHead = ({ name, type, dimensions }: Constant) =>
  message(
    ...dimensions.map((size) => integerField(1, size)),
    integerField(2, dataTypes[type]),
    bytesField(8, name),
  );

const encodeSmall = (constant: SmallConstant) =>
  message(constantHead(constant), bytesField(9, constant.bytes));

function encodeLarge(constant: LargeConstant, file: string): Buffer {
  const entry = (key: string, value: string | number) =>
    bytesField(13, message(bytesField(1, key), bytesField(2, String(value))));
  return message(
    constantHead(constant),
    entry("location", file),
    entry("offset", constant.offset),
    entry("length", constant.length),
    integerField(14, 1), // external
  );
}

/** The whole model; `dataFile` is the name of the file with the large constants, in the same folder. */
export function encodeModel(graph: Graph, dataFile: string): Buffer {
  const encodedGraph = message(
    ...graph.nodes.map((node, index) => bytesField(1, encodeNode(node, index))),
    bytesField(2, "decoder"),
    ...graph.small.map((constant) => bytesField(5, encodeSmall(constant))),
    ...graph.large.map((constant) => bytesField(5, encodeLarge(constant, dataFile))),
    ...graph.inputs.map((port) => bytesField(11, encodePort(port))),
    ...graph.outputs.map((port) => bytesField(12, encodePort(port))),
  );
  return message(
    integerField(1, fileVersion),
    bytesField(2, "dejavu-peers"),
    bytesField(7, encodedGraph),
    ...Object.entries(operatorVersions).map(([domain, version]) =>
      bytesField(8, message(bytesField(1, domain), integerField(2, version))),
    ),
  );
}

/** The part of the protobuf encoding that ONNX needs: a message is its fields, one after the other. */

/** Seven bits a byte, lowest first, the top bit set on all but the last; negative numbers as 64-bit two's complement. */
function varint(value: number | bigint): Buffer {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

const wireTypes = { varint: 0, bytes: 2, fixed32: 5 } as const;
const tag = (field: number, wire: keyof typeof wireTypes) => varint((field << 3) | wireTypes[wire]);

export const integerField = (field: number, value: number | bigint): Buffer =>
  Buffer.concat([tag(field, "varint"), varint(value)]);

export function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([tag(field, "fixed32"), bytes]);
}

/** A string, bytes, or a message that is already encoded. */
export function bytesField(field: number, value: string | Uint8Array): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([tag(field, "bytes"), varint(bytes.length), bytes]);
}

export const message = (...fields: readonly Uint8Array[]): Buffer => Buffer.concat(fields);

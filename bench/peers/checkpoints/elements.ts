/** Random elements of the element types that the checkpoints use. Weights are about ±0.02, as trained ones are. */
import { blockSize } from "../formats.ts";
import { RandomRecords, randomHalf } from "./random.ts";

/** Scales of a block: 2^-8 to 2^-7 times a nibble, 2^-13 to 2^-12 times a byte. */
const nibbleScale = -8;
const byteScale = -13;

function fillBytes(record: DataView, from: number, next: () => number): void {
  for (let i = from; i < record.byteLength; i++) record.setUint8(i, next() & 0xff);
}

/** Scales are positive. */
const positive = (half: number) => half & 0x7fff;

export interface ElementSource {
  /** Elements that are stored together. */
  readonly elements: number;
  readonly bytes: number;
  readonly records: RandomRecords;
}

const source = (elements: number, bytes: number, fill: ConstructorParameters<typeof RandomRecords>[1]) => {
  let records: RandomRecords | undefined;
  return {
    elements,
    bytes,
    /** Made when first asked for: most runs need two or three of them. */
    get records() {
      return (records ??= new RandomRecords(bytes, fill));
    },
  } satisfies ElementSource;
};

const halfBlock = (bytes: number, exponent: number) =>
  source(blockSize, bytes, (record, next) => {
    record.setUint16(0, positive(randomHalf(next(), exponent)), true);
    fillBytes(record, 2, next);
  });

export const elementSources = {
  /** ±0.03 */
  f32: source(1, 4, (record, next) => record.setFloat32(0, (next() / 2 ** 32 - 0.5) / 16, true)),
  f16: source(1, 2, (record, next) => record.setUint16(0, randomHalf(next(), -6), true)),
  /** Gains of a layer norm. */
  gain: source(1, 4, (record, next) => record.setFloat32(0, 0.75 + next() / 2 ** 33, true)),
  gainHalf: source(1, 2, (record, next) => record.setUint16(0, positive(randomHalf(next(), -1)), true)),
  /** GGUF: a half-precision scale, then 32 nibbles. */
  q4_0: halfBlock(2 + blockSize / 2, nibbleScale),
  /** GGUF: a half-precision scale, then 32 signed bytes. */
  q8_0: halfBlock(2 + blockSize, byteScale),
  /** ONNX keeps the bytes of MatMulNBits and their scales apart. */
  u8: source(1, 1, (record, next) => record.setUint8(0, next() & 0xff)),
  nibbleScale: source(1, 4, (record, next) =>
    record.setFloat32(0, 2 ** nibbleScale * (1 + next() / 2 ** 32), true),
  ),
  byteScale: source(1, 4, (record, next) =>
    record.setFloat32(0, 2 ** byteScale * (1 + next() / 2 ** 32), true),
  ),
} as const;

export type ElementType = keyof typeof elementSources;

/** Bytes of `elements` elements, which must fill whole blocks. */
export function bytesOf(type: ElementType, elements: number): number {
  const { elements: block, bytes } = elementSources[type];
  if (elements % block !== 0)
    throw new Error(`${elements} elements of ${type} are not whole blocks of ${block}`);
  return (elements / block) * bytes;
}

/** The bytes of a tensor, piece by piece. */
export function randomTensor(type: ElementType, elements: number): Generator<Buffer> {
  const { bytes, records } = elementSources[type];
  return records.take(bytesOf(type, elements) / bytes);
}

/** Ten thousand damaged files: each is refused with a WeightsError, or means what a naive reader says it means. */
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WeightsError } from "../../src/util/errors.ts";
import { elementBytes, openSafetensors, parseHeader, type TensorDtype } from "../../src/weights/index.ts";
import { expectSame } from "../helpers/same.ts";
import { onDisk, soundFile } from "./files.ts";

interface Sample {
  /** The start of the file, the whole header included. */
  readonly bytes: Uint8Array;
  readonly fileSize: number;
}

/** The bundled model's header. Its data is not needed. */
function bundledHeader(): Sample {
  const file = "models/stories-4m/model.safetensors";
  const bytes = new Uint8Array(17_000);
  const handle = openSync(file, "r");
  readSync(handle, bytes, 0, bytes.length, 0);
  closeSync(handle);
  const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  return { bytes: bytes.slice(0, 8 + headerBytes), fileSize: statSync(file).size };
}

const sound: Sample = { bytes: soundFile(), fileSize: soundFile().length };
const samples = [sound, bundledHeader()];

type Mutation = (sample: Sample) => Sample;

const resized = ({ bytes, fileSize }: Sample, changed: Uint8Array): Sample => ({
  bytes: changed,
  fileSize: Math.max(0, fileSize + changed.length - bytes.length),
});

function splice({ bytes }: Sample, at: number, removed: number, inserted: Uint8Array): Uint8Array {
  const start = Math.floor(at * bytes.length);
  const tail = bytes.subarray(Math.min(bytes.length, start + removed));
  const result = new Uint8Array(start + inserted.length + tail.length);
  result.set(bytes.subarray(0, start));
  result.set(inserted, start);
  result.set(tail, start + inserted.length);
  return result;
}

/** A place in the file, favouring its first bytes, as a share of its length. */
const place = fc.oneof(
  fc.double({ min: 0, max: 0.9999, noNaN: true }),
  fc.double({ min: 0, max: 0.01, noNaN: true }),
);

const bitFlip: fc.Arbitrary<Mutation> = fc.tuple(place, fc.nat(7)).map(([at, bit]) => (sample) => {
  const bytes = sample.bytes.slice();
  bytes[Math.floor(at * bytes.length)]! ^= 1 << bit;
  return { bytes, fileSize: sample.fileSize };
});

const truncation: fc.Arbitrary<Mutation> = fc.tuple(place, fc.boolean()).map(([at, tailOnly]) => (sample) => {
  if (tailOnly) return { bytes: sample.bytes, fileSize: Math.floor(at * sample.fileSize) };
  const bytes = sample.bytes.slice(0, Math.floor(at * sample.bytes.length));
  return { bytes, fileSize: bytes.length };
});

const insertion = fc.oneof(
  fc.uint8Array({ maxLength: 12 }),
  fc
    .constantFrom("{", "}", "[", '"', ",", ":", "\\", '"x":1,', "__proto__", "\ufeff", "\u0000")
    .map((text) => new TextEncoder().encode(text)),
);
const splicing: fc.Arbitrary<Mutation> = fc.tuple(place, fc.nat(20), insertion).map(
  ([at, removed, inserted]) =>
    (sample) =>
      resized(sample, splice(sample, at, removed, inserted)),
);

const numbers = [
  "0",
  "1",
  "-1",
  "2",
  "8",
  "1e9",
  "4.0",
  "9007199254740993",
  "18446744073709551616",
  "null",
  '"1"',
];
const words = ['"F32"', '"F16"', '"BF16"', '"U8"', '"F64"', '"shape"', '"dtype"', "[]", "{}", "[0,0]"];

/** Replaces one token of the header by another and puts the right length before it. */
const fieldEdit: fc.Arbitrary<Mutation> = fc
  .tuple(fc.nat(), fc.constantFrom(...numbers, ...words))
  .map(([which, replacement]) => (sample) => {
    const headerBytes = Number(
      new DataView(sample.bytes.buffer, sample.bytes.byteOffset).getBigUint64(0, true),
    );
    const header = new TextDecoder().decode(sample.bytes.subarray(8, 8 + headerBytes));
    const tokens = [...header.matchAll(/"[^"\\]*"|\d+|\[[\d,]*\]/g)];
    const token = tokens[which % tokens.length]!;
    const edited = header.slice(0, token.index) + replacement + header.slice(token.index + token[0].length);
    const encoded = new TextEncoder().encode(edited);
    const bytes = new Uint8Array(8 + encoded.length + sample.bytes.length - 8 - headerBytes);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(encoded.length), true);
    bytes.set(encoded, 8);
    bytes.set(sample.bytes.subarray(8 + headerBytes), 8 + encoded.length);
    return resized(sample, bytes);
  });

/** What `JSON.parse` makes of the header, which must then be what our reader made of it, and tile the file. */
function checkAgainstNaiveReader({ bytes, fileSize }: Sample): void {
  const { tensors, metadata, dataStart } = parseHeader(bytes, fileSize, "f");
  const { __metadata__: described, ...naive } = JSON.parse(
    new TextDecoder().decode(bytes.subarray(8, dataStart)),
  );
  if (!isDeepStrictEqual(Object.fromEntries(metadata), described ?? {})) throw new Error("other metadata");
  let total = dataStart;
  if (tensors.size !== Object.keys(naive).length) throw new Error("another number of tensors");
  for (const { name, dtype, shape, begin, end } of tensors.values()) {
    const entry = naive[name];
    const same = entry.dtype === dtype && entry.shape.join() === shape.join();
    const [first, last] = entry.data_offsets;
    if (!same || first + dataStart !== begin || last + dataStart !== end) throw new Error(`another ${name}`);
    const elements = shape.reduce((product: number, extent: number) => product * extent, 1);
    if (end - begin !== elements * elementBytes[dtype as TensorDtype]) throw new Error(`the size of ${name}`);
    if (begin < dataStart || end > fileSize) throw new Error(`the range of ${name}`);
    total += end - begin;
  }
  if (total !== fileSize) throw new Error("not tiled");
}

/** "refused" or "same meaning"; anything else throws. */
function outcome(sample: Sample): string {
  try {
    checkAgainstNaiveReader(sample);
    return "same meaning";
  } catch (cause) {
    if (cause instanceof WeightsError && cause.file === "f" && cause.reason.length > 0) return "refused";
    throw cause;
  }
}

describe("damaged headers", () => {
  it.each([
    ["bit flips", bitFlip, 3400],
    ["truncations", truncation, 1600],
    ["splices", splicing, 2400],
    ["edited fields", fieldEdit, 2400],
  ] as const)("%s", (_, mutation, runs) => {
    const outcomes = { refused: 0, "same meaning": 0 } as Record<string, number>;
    const property = fc.property(fc.constantFrom(...samples), mutation, (sample, mutate) => {
      const kind = outcome(mutate(sample));
      outcomes[kind]! += 1;
    });
    fc.assert(property, { numRuns: runs, seed: 20260101 });
    expect(outcomes["refused"]).toBeGreaterThan(runs / 10);
  });

  it("damaged twice", () => {
    const any = fc.oneof(bitFlip, truncation, splicing);
    const property = fc.property(fieldEdit, any, (first, second) => void outcome(second(first(sound))));
    fc.assert(property, { numRuns: 400, seed: 20260102 });
  });
});

describe("damaged files on disk", () => {
  it("are refused or read within their bounds", async () => {
    const mutation = fc.oneof(bitFlip, truncation, splicing, fieldEdit);
    await fc.assert(
      fc.asyncProperty(mutation, async (mutate) => {
        const { bytes } = mutate(sound);
        const file = await onDisk(bytes);
        const weights = await openSafetensors(file).catch((cause: unknown) => {
          expect(cause).toBeInstanceOf(WeightsError);
          return null;
        });
        if (weights === null) return;
        for (const { name, begin, end } of weights.tensors.values()) {
          const read = new Uint8Array(end - begin);
          await weights.read(name, read);
          expectSame(read, bytes.slice(begin, end));
        }
        await weights.close();
      }),
      { numRuns: 300, seed: 20260103 },
    );
  });
});

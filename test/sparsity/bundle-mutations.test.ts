/** Two thousand damaged bundles: each is refused by class, or means what a naive reader says it means. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { type Bundle, loadBundle, writeBundle } from "../../src/sparsity/bundle.ts";
import { type PredictorKind, predictorKinds } from "../../src/sparsity/predictor.ts";
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { BundleError, WeightsError } from "../../src/util/errors.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { bundleKey, tinyBundle, tinyBundleModel } from "../helpers/tiny-bundle.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const file = join(folder, "damaged.safetensors");
const kernels = openReference();
afterAll(() => kernels.dispose());
const sound = {} as Record<PredictorKind, Uint8Array>;
beforeAll(async () => {
  for (const kind of predictorKinds) {
    const { metadata, tensors } = tinyBundle(kind);
    await writeBundle(file, metadata, tensors);
    sound[kind] = new Uint8Array(readFileSync(file));
  }
});

type Mutation = (bytes: Uint8Array) => Uint8Array;
interface Parts {
  readonly header: string;
  readonly data: Uint8Array;
}

function parse(bytes: Uint8Array): Parts {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(8, 8 + length));
  return { header, data: bytes.subarray(8 + length) };
}

function assemble({ header, data }: Parts): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

const place = fc.oneof(
  fc.double({ min: 0, max: 0.9999, noNaN: true }),
  fc.double({ min: 0, max: 0.01, noNaN: true }),
);
const bitFlip: fc.Arbitrary<Mutation> = fc.tuple(place, fc.nat(7)).map(([at, bit]) => (bytes) => {
  const changed = bytes.slice();
  changed[Math.floor(at * changed.length)]! ^= 1 << bit;
  return changed;
});
const truncation: fc.Arbitrary<Mutation> = place.map(
  (at) => (bytes) => bytes.slice(0, Math.floor(at * bytes.length)),
);
const splice: fc.Arbitrary<Mutation> = fc
  .tuple(place, fc.nat(20), fc.uint8Array({ maxLength: 12 }))
  .map(([at, removed, inserted]) => (bytes) => {
    const start = Math.floor(at * bytes.length);
    return Uint8Array.of(...bytes.subarray(0, start), ...inserted, ...bytes.subarray(start + removed));
  });

/** One token of the header becomes another one of it, or something else. */
const others = [
  "0",
  "1",
  "-1",
  "1e9",
  "9007199254740993",
  '"I32"',
  '"F16"',
  '"neurons.9.up"',
  "[]",
  "[0,4]",
  "null",
];
const headerEdit: fc.Arbitrary<Mutation> = fc
  .tuple(fc.nat(), fc.oneof(fc.nat(), fc.constantFrom(...others)))
  .map(([which, by]) => (bytes) => {
    const { header, data } = parse(bytes);
    const tokens = [...header.matchAll(/"(?:[^"\\]|\\.)*"|\d+|\[[\d,]*\]/g)];
    const token = tokens[which % tokens.length]!;
    const replacement = typeof by === "number" ? tokens[by % tokens.length]![0] : by;
    const edited = header.slice(0, token.index) + replacement + header.slice(token.index + token[0].length);
    return assemble({ header: edited, data });
  });

const values = fc.constantFrom<unknown>(
  0,
  -1,
  1,
  2,
  3,
  0.5,
  1e300,
  2 ** 53,
  null,
  true,
  "",
  "x",
  "dense",
  "topK",
  "threshold",
  "mlp-input",
  "previous-block",
  "attention-input",
  "first-block",
  "per-layer",
  "shadow",
  [],
  {},
  [[]],
);
type Change = "replace" | "delete" | "add" | "duplicate";
const changes = fc.constantFrom<Change>("replace", "replace", "delete", "add", "duplicate");

/** One value of the bundle's own metadata is replaced, removed, joined by another or doubled. */
const metadataEdit: fc.Arbitrary<Mutation> = fc
  .tuple(fc.nat(), changes, values)
  .map(([which, change, value]) => (bytes) => {
    const { header, data } = parse(bytes);
    const json = JSON.parse(header);
    const metadata = JSON.parse(json.__metadata__[bundleKey]);
    const places: { holder: Record<string, unknown>; key: string }[] = [];
    const visit = (holder: Record<string, unknown>) => {
      for (const key of Object.keys(holder)) {
        places.push({ holder, key });
        const inner = holder[key];
        if (typeof inner === "object" && inner !== null) visit(inner as Record<string, unknown>);
      }
    };
    visit(metadata);
    const { holder, key } = places[which % places.length]!;
    if (change === "replace") holder[key] = value;
    else if (change === "add") holder[`${key}x`] = value;
    else if (Array.isArray(holder)) change === "delete" ? holder.pop() : holder.push(holder[0]);
    else delete holder[key];
    json.__metadata__[bundleKey] = JSON.stringify(metadata);
    return assemble({ header: JSON.stringify(json), data });
  });

/** Compares everything that was loaded with what `JSON.parse` and slicing make of the bytes. */
async function checkAgainstNaiveReader(bundle: Bundle, bytes: Uint8Array): Promise<void> {
  const { header, data } = parse(bytes);
  const { __metadata__: texts, ...tensors } = JSON.parse(header);
  expect(bundle.metadata).toEqual({
    predictor: "per-layer",
    targets: { heads: "norm", neurons: "active" },
    ...JSON.parse(texts[bundleKey]),
  });
  expect(bundle.metadata.model).toEqual(tinyBundleModel);
  const widened = (name: string): Float32Array => {
    const { dtype, data_offsets } = tensors[name];
    const stored = data.slice(...(data_offsets as [number, number]));
    const halves = () => new Uint16Array(stored.buffer);
    if (dtype === "F32") return new Float32Array(stored.buffer);
    if (dtype === "F16") return Float32Array.from(halves(), f16ToNumber);
    return new Float32Array(Uint32Array.from(halves(), (bits) => bits << 16).buffer);
  };
  const read = async (tensor: Tensor): Promise<Float32Array> => {
    const length = tensor.shape.reduce((a, b) => a * b, 1);
    if (tensor.dtype === "f32") {
      const floats = new Float32Array(length);
      await kernels.read(tensor, floats);
      return floats;
    }
    const halves = new Uint16Array(length);
    await kernels.read(tensor, halves);
    if (tensor.dtype === "f16") return Float32Array.from(halves, f16ToNumber);
    return new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer);
  };
  const known = new Set<string>();
  const same = (name: string, loaded: Float32Array) => {
    known.add(name);
    expect(loaded, name).toEqual(widened(name));
  };
  for (const unit of ["heads", "neurons"] as const)
    for (let layer = 0; layer < tinyBundleModel.layers; layer++) {
      same(`${unit}.${layer}.score`, bundle.statistics[unit][layer]!);
      const predictor = bundle.predictors[unit][layer]!;
      if (predictor === null) {
        expect(tensors[`${unit}.${layer}.up`]).toBeUndefined();
        expect(bundle.metadata.policy[unit][layer]!.kind).toBe("dense");
        continue;
      }
      expect(predictor.source).toBe(bundle.metadata.sources[unit]);
      for (const part of ["down", "up", "bias"] as const) {
        const tensor = predictor[part];
        const isShared = bundle.metadata.predictor === "shadow" && part === "down";
        const name = isShared ? `${unit}.down` : `${unit}.${layer}.${part}`;
        if (tensor === null) expect(tensors[name]).toBeUndefined();
        else same(name, await read(tensor));
      }
    }
  expect(known.size).toBe(Object.keys(tensors).length);
}

async function outcome(bytes: Uint8Array): Promise<"refused" | "same meaning"> {
  writeFileSync(file, bytes);
  const memory = watchMemory(kernels);
  try {
    const bundle = await loadBundle(kernels, file, tinyBundleModel);
    // Vectors are widened from 2 bytes to 4.
    expect(memory.bytes).toBeLessThanOrEqual(2 * bytes.length);
    await checkAgainstNaiveReader(bundle, bytes);
    bundle.dispose();
    return "same meaning";
  } catch (cause) {
    if (!(cause instanceof BundleError || cause instanceof WeightsError)) throw cause;
    expect(cause.message).toContain(file);
    expect(memory.bytes).toBe(0);
    return "refused";
  } finally {
    expect(memory.live.size).toBe(0);
    memory.end();
  }
}

describe("damaged bundles", () => {
  it("load when they are not damaged", async () => {
    for (const kind of predictorKinds) expect(await outcome(sound[kind]), kind).toBe("same meaning");
  });

  it.each([
    ["bit flips", bitFlip, 500],
    ["truncations", truncation, 200],
    ["splices", splice, 300],
    ["edits of the header", headerEdit, 450],
    ["edits of the metadata", metadataEdit, 450],
    [
      "two at once",
      fc.tuple(headerEdit, fc.oneof(metadataEdit, bitFlip)).map(
        ([a, b]): Mutation =>
          (bytes) => {
            const once = a(bytes);
            try {
              return b(once);
            } catch {
              return once; // no header left to edit
            }
          },
      ),
      100,
    ],
  ] as const)(
    "%s",
    async (_, mutation, runs) => {
      const outcomes = { refused: 0, "same meaning": 0 };
      const kinds = fc.constantFrom(...predictorKinds);
      const property = fc.asyncProperty(mutation, kinds, async (mutate, kind) => {
        outcomes[await outcome(mutate(sound[kind]))] += 1;
      });
      await fc.assert(property, {
        numRuns: runs,
        seed: 20260201,
        interruptAfterTimeLimit: 20_000,
        markInterruptAsFailure: true,
      });
      expect(outcomes.refused).toBeGreaterThan(runs / 10);
    },
    30_000,
  );
});

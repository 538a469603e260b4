/** Damage to safetensors files whose metadata is JSON, for property tests. */
import fc from "fast-check";

export type Mutation = (bytes: Uint8Array) => Uint8Array;
export interface Parts {
  readonly header: string;
  readonly data: Uint8Array;
}

export function parse(bytes: Uint8Array): Parts {
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
export const bitFlip: fc.Arbitrary<Mutation> = fc.tuple(place, fc.nat(7)).map(([at, bit]) => (bytes) => {
  const changed = bytes.slice();
  changed[Math.floor(at * changed.length)]! ^= 1 << bit;
  return changed;
});
export const truncation: fc.Arbitrary<Mutation> = place.map(
  (at) => (bytes) => bytes.slice(0, Math.floor(at * bytes.length)),
);
export const splice: fc.Arbitrary<Mutation> = fc
  .tuple(place, fc.nat(20), fc.uint8Array({ maxLength: 12 }))
  .map(([at, removed, inserted]) => (bytes) => {
    const start = Math.floor(at * bytes.length);
    return Uint8Array.of(...bytes.subarray(0, start), ...inserted, ...bytes.subarray(start + removed));
  });

/** One token of the header becomes another one of it, or one of `others`. */
export const headerEdit = (others: readonly string[]): fc.Arbitrary<Mutation> =>
  fc.tuple(fc.nat(), fc.oneof(fc.nat(), fc.constantFrom(...others))).map(([which, by]) => (bytes) => {
    const { header, data } = parse(bytes);
    const tokens = [...header.matchAll(/"(?:[^"\\]|\\.)*"|\d+|\[[\d,]*\]/g)];
    const token = tokens[which % tokens.length]!;
    const replacement = typeof by === "number" ? tokens[by % tokens.length]![0] : by;
    const edited = header.slice(0, token.index) + replacement + header.slice(token.index + token[0].length);
    return assemble({ header: edited, data });
  });

type Change = "replace" | "delete" | "add" | "duplicate";
const changes = fc.constantFrom<Change>("replace", "replace", "delete", "add", "duplicate");

/** One value of the JSON under `metadataKey` is replaced by one of `values`, removed, joined by another or doubled. */
export const metadataEdit = (metadataKey: string, values: readonly unknown[]): fc.Arbitrary<Mutation> =>
  fc.tuple(fc.nat(), changes, fc.constantFrom(...values)).map(([which, change, value]) => (bytes) => {
    const { header, data } = parse(bytes);
    const json = JSON.parse(header);
    const metadata = JSON.parse(json.__metadata__[metadataKey]);
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
    json.__metadata__[metadataKey] = JSON.stringify(metadata);
    return assemble({ header: JSON.stringify(json), data });
  });

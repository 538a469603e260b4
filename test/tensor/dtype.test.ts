/** Half-precision conversions, exhaustively and against float64 arithmetic. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  bf16ToNumber,
  f16ToNumber,
  fromFloat32,
  numberToBf16,
  numberToF16,
  toFloat32,
} from "../../src/tensor/dtype.ts";

interface Format {
  readonly name: string;
  readonly toNumber: (bits: number) => number;
  readonly toBits: (value: number) => number;
  readonly fractionBits: number;
  /** Exponent of the smallest normal number, and of the largest. */
  readonly minExponent: number;
  readonly maxExponent: number;
}

const formats: Format[] = [
  {
    name: "binary16",
    toNumber: f16ToNumber,
    toBits: numberToF16,
    fractionBits: 10,
    minExponent: -14,
    maxExponent: 15,
  },
  {
    name: "bfloat16",
    toNumber: bf16ToNumber,
    toBits: numberToBf16,
    fractionBits: 7,
    minExponent: -126,
    maxExponent: 127,
  },
];

const hex = (bits: number) => `0x${bits.toString(16).padStart(4, "0")}`;

/** What the bits mean, by the definition of the formats. */
function meaning(bits: number, f: Format): number {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits & 0x7fff) >> f.fractionBits;
  const fraction = bits & (2 ** f.fractionBits - 1);
  if (exponent === 2 ** (15 - f.fractionBits) - 1) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (f.minExponent - f.fractionBits);
  return sign * (1 + fraction / 2 ** f.fractionBits) * 2 ** (exponent - 1 + f.minExponent);
}

/** The nearest number of the format, ties to the even one; float64 holds every step exactly. */
function nearest(value: number, f: Format): number {
  if (!Number.isFinite(value) || value === 0) return value;
  let exponent = Math.floor(Math.log2(Math.abs(value)));
  while (2 ** exponent > Math.abs(value)) exponent--;
  while (2 ** (exponent + 1) <= Math.abs(value)) exponent++;
  const step = 2 ** (Math.max(exponent, f.minExponent) - f.fractionBits);
  const scaled = Math.abs(value) / step;
  const below = Math.floor(scaled);
  const rest = scaled - below;
  const rounded = rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
  const result = rounded * step;
  return Math.sign(value) * (result >= 2 ** (f.maxExponent + 1) ? Infinity : result);
}

describe.each(formats)("$name", (f) => {
  it("gives every pattern its meaning and takes it back", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = f.toNumber(bits);
      if (!Object.is(value, meaning(bits, f))) expect.fail(`${hex(bits)} is ${value}`);
      const back = f.toBits(value);
      if (Number.isNaN(value) ? !Number.isNaN(f.toNumber(back)) : back !== bits)
        expect.fail(`${hex(bits)} came back as ${hex(back)}`);
    }
  });

  it("rounds to the nearest, ties to even", () => {
    const anywhere = fc.float({ noNaN: true });
    const inRange = fc.float({ min: -70000, max: 70000, noNaN: true });
    const small = fc.float({ min: Math.fround(-(2 ** -13)), max: Math.fround(2 ** -13), noNaN: true });
    const property = fc.property(fc.oneof(anywhere, inRange, small), (value) => {
      expect(f.toNumber(f.toBits(value))).toBe(nearest(value, f));
    });
    fc.assert(property, { numRuns: 20_000, seed: 1 });
  });

  it("rounds right at and beside the middle of every two neighbours", () => {
    const float = new Float32Array(1);
    const word = new Uint32Array(float.buffer);
    for (let bits = 0; meaning(bits + 1, f) < Infinity; bits++) {
      float[0] = (meaning(bits, f) + meaning(bits + 1, f)) / 2; // exact: a float32 has the bit
      const middle = word[0]!;
      for (const neighbour of [middle - 1, middle, middle + 1]) {
        word[0] = neighbour;
        for (const value of [float[0]!, -float[0]!] as number[])
          if (!Object.is(f.toNumber(f.toBits(value)), nearest(value, f)))
            expect.fail(`${value} became ${hex(f.toBits(value))}`);
      }
    }
  });

  it("overflows to infinity half a step above the largest number", () => {
    const largest = (2 - 2 ** -f.fractionBits) * 2 ** f.maxExponent;
    const limit = (2 - 2 ** -(f.fractionBits + 1)) * 2 ** f.maxExponent;
    expect(f.toNumber(f.toBits(largest))).toBe(largest);
    expect(f.toNumber(f.toBits(limit * (1 - 2 ** -23)))).toBe(largest);
    expect(f.toNumber(f.toBits(limit))).toBe(Infinity);
    expect(f.toNumber(f.toBits(-limit))).toBe(-Infinity);
    expect(f.toNumber(f.toBits(Infinity))).toBe(Infinity);
  });
});

describe("arrays", () => {
  const values = Float32Array.of(0, -0, 1, -2.5, 65504, 1e-7, Infinity);

  it("are narrowed and widened element by element", () => {
    for (const [dtype, f] of [
      ["f16", formats[0]!],
      ["bf16", formats[1]!],
    ] as const) {
      const bits = fromFloat32(dtype, values);
      expect(bits).toEqual(Uint16Array.from(values, f.toBits));
      expect(toFloat32(dtype, bits)).toEqual(Float32Array.from(bits, f.toNumber));
    }
  });

  it("of float32 stay the same array", () => {
    expect(fromFloat32("f32", values)).toBe(values);
    expect(toFloat32("f32", values)).toBe(values);
  });
});

/** Weights from any dtype to any other, bit for bit; and what quantized weights do with numbers that are none. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { WeightDtype } from "../../src/tensor/dtype.ts";
import type { Lab } from "./lab.ts";
import { rowCount, type Subject, seed, size } from "./subject.ts";

/** Rows of many magnitudes, with zeros, blocks of zeros, ties and equals of both signs among them. */
function difficult(lab: Lab, rows: number, columns: number) {
  const values = Array.from({ length: rows * columns }, (_, i) => {
    const kind = lab.next();
    const spread = 10 ** ((Math.floor(i / 32) % 14) - 9);
    if (kind < 0.1) return 0;
    if (kind < 0.3) return (Math.floor(lab.next() * 17) / 8 - 1) * spread;
    return (lab.next() * 2 - 1) * spread;
  });
  return lab.floats([rows, columns], values);
}

export function convertOp(subject: Subject): void {
  const { property, agreeExactly, dtype } = subject;

  property<[number, number, WeightDtype, WeightDtype, boolean, number]>(
    "convert rounds rows to another dtype",
    [size, rowCount, dtype, dtype, fc.boolean(), seed],
    async (d, rows, from, to, isDifficult, s) => {
      await agreeExactly(s, async (lab) => {
        const out = lab.random([rows + 3, d], to);
        const x = lab.random([rows + 2, d], from);
        if (isDifficult)
          lab.kernels.convert(x === out ? out : x, 0, difficult(lab, rows + 2, d), 0, rows + 2);
        lab.kernels.convert(out, 2, x, 1, rows);
        return lab.read(out);
      });
    },
    200,
  );

  it("convert gives the codes that were worked out by hand", async () => {
    const { kernels } = subject;
    const x = kernels.allocate("f32", [1, 3]);
    kernels.write(x, Float32Array.of(1, -0.25, 0));
    const bytes = async (type: "int8" | "int4") => {
      const out = kernels.allocate(type, [1, 3]);
      kernels.convert(out, 0, x, 0, 1);
      const into = new Uint8Array(68); // 64 of codes, padded; one scale, or two of half the size
      await kernels.read(out, into);
      kernels.free(out);
      return into;
    };
    const int8 = await bytes("int8");
    expect([...int8.slice(0, 4)]).toEqual([127, 256 - 32, 0, 0]); // -31.75 is nearest to -32
    expect(new Float32Array(int8.slice(64).buffer)[0]).toBe(Math.fround(1 / 127));
    const int4 = await bytes("int4");
    // 1 / -8 gives both numbers exactly: codes -8 and 2, stored as 0 and 10; 0 is stored as 8, and so is the padding.
    expect([...int4.slice(0, 4)]).toEqual([0x80, 0x8a, 0x88, 0x88]);
    expect(new Uint16Array(int4.slice(64).buffer)[0]).toBe(0xb000); // -0.125 as f16
    kernels.free(x);
  });

  it("NaN and infinity in a row make what quantized weights give for it NaN, and only that", async () => {
    for (const type of ["int8", "int4"] as const)
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const told = await agreeExactly(3, async (lab) => {
          const x = lab.random([3, 70]);
          lab.kernels.write(x, Float32Array.of(bad), 70 + 66);
          const [out, relu] = [lab.random([3, 5]), lab.random([3, 5])];
          const weight = lab.random([5, 70], type);
          lab.kernels.product(out, 0, x, weight, null, "none", null, 1, 3);
          lab.kernels.product(relu, 0, x, weight, null, "relu", null, 1, 3);
          return [...(await lab.read(out)), ...(await lab.read(relu))].map(Number.isNaN);
        });
        expect(told).toEqual(Array.from({ length: 30 }, (_, i) => Math.floor((i % 15) / 5) === 1));
      }
  });
}

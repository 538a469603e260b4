/** Ops that multiply, move or reduce rows. */
import fc from "fast-check";
import { it } from "vitest";
import type { Activation } from "../../src/kernels/contract.ts";
import type { WeightDtype } from "../../src/tensor/dtype.ts";
import type { Filling } from "./lab.ts";
import { filling, rowCount, type Subject, seed, size, smallSize } from "./subject.ts";

export function matrixOps(subject: Subject): void {
  const { property, agree, agreeExactly, dtype, toleranceOf } = subject;

  property<[number, number, WeightDtype, number]>(
    "embedding gathers rows",
    [size, rowCount, dtype, seed],
    (d, rows, type, s) =>
      agreeExactly(s, async (lab) => {
        const ids = lab.integers(
          [rows + 2],
          Array.from({ length: rows + 2 }, () => Math.floor(lab.next() * 9)),
        );
        const out = lab.random([rows + 1, d]);
        lab.kernels.embedding(out, lab.random([9, d], type), ids, rows);
        return lab.read(out);
      }).then(() => {}),
  );

  it("every f16 and bf16 widens to its value", async () => {
    for (const type of ["f16", "bf16"] as const)
      await agreeExactly(1, async (lab) => {
        const table = lab.tensor(
          type,
          [256, 256],
          Uint16Array.from({ length: 65536 }, (_, i) => i),
        );
        const ids = lab.integers([256], [...Array(256).keys()]);
        const out = lab.random([256, 256]);
        lab.kernels.embedding(out, table, ids, 256);
        return lab.read(out);
      });
  });

  property<[number, number, WeightDtype, number]>(
    "addRows adds rows of a table",
    [size, rowCount, dtype, seed],
    (d, rows, type, s) =>
      agree(s, async (lab) => {
        const out = lab.random([rows + 1, d]);
        const picked = Array.from({ length: rows + 1 }, () => Math.floor(lab.next() * 7));
        lab.kernels.addRows(out, lab.random([9, d], type), lab.integers([rows + 1], picked), 2, rows);
        return lab.read(out);
      }),
  );

  property<[number, number, number]>(
    "copyRows moves rows, also within one tensor",
    [size, rowCount, seed],
    async (d, rows, s) => {
      await agreeExactly(s, async (lab) => {
        const out = lab.random([rows + 4, d]);
        lab.kernels.copyRows(out, 3, lab.random([rows + 2, d]), 1, rows);
        lab.kernels.copyRows(out, 1, out, 0, rows);
        return lab.read(out);
      });
    },
  );

  property<[number, number, number]>(
    "transpose turns rows into columns",
    [size, fc.constantFrom(1, 2, 5, 33), seed],
    async (d, rows, s) => {
      await agreeExactly(s, async (lab) => {
        const out = lab.random([d + 1, rows]);
        lab.kernels.transpose(out, lab.random([rows + 2, d]), rows);
        return lab.read(out);
      });
    },
  );

  property<[number, number, boolean, boolean, boolean, number]>(
    "layerNorm, with and without weight and bias, in place and not",
    [size, rowCount, fc.boolean(), fc.boolean(), fc.boolean(), seed],
    (d, rows, weighted, biased, inPlace, s) =>
      agree(s, async (lab) => {
        const x = lab.random([rows + 1, d]);
        const out = inPlace ? x : lab.random([rows + 1, d]);
        const weight = weighted ? lab.random([d]) : null;
        lab.kernels.layerNorm(out, x, weight, biased ? lab.random([d]) : null, 1e-5, rows);
        return lab.read(out);
      }),
  );

  property<[number, number, number, number, WeightDtype, Filling, boolean, Activation, boolean, number]>(
    "product, dense and of active sets, shared or not",
    [
      size,
      size,
      fc.constantFrom(1, 2, 3),
      rowCount,
      dtype,
      filling,
      fc.boolean(),
      fc.constantFrom<Activation>("none", "relu"),
      fc.boolean(),
      seed,
    ],
    (units, k, perUnit, rows, type, fill, shared, activation, biased, s) =>
      agree(
        s,
        async (lab) => {
          const n = units * perUnit;
          const out = lab.random([rows + 3, n]);
          const [x, weight] = [lab.random([rows + 1, k]), lab.random([n, k], type)];
          const bias = biased ? lab.random([n]) : null;
          const set = lab.set(units, rows, fill, shared);
          lab.kernels.product(out, 2, x, weight, bias, activation, set, perUnit, rows);
          return lab.read(out);
        },
        toleranceOf(type, rows),
      ),
    200,
  );

  property<[number, number, number, number, WeightDtype, Filling, boolean, boolean, number]>(
    "accumulate, dense and of active sets, shared or not",
    [size, size, fc.constantFrom(1, 2, 3), rowCount, dtype, filling, fc.boolean(), fc.boolean(), seed],
    (units, d, perUnit, rows, type, fill, shared, biased, s) => {
      const n = units * perUnit;
      const rounding = (subject.factorRounding[type] ?? 0) * (1 + n / 8); // of Σ |a · w|
      return agree(
        s,
        async (lab) => {
          const out = lab.random([rows + 1, d]);
          const [a, weight] = [lab.random([rows + 1, n]), lab.random([n, d], type)];
          const set = lab.set(units, rows, fill, shared);
          lab.kernels.accumulate(out, a, weight, biased ? lab.random([d]) : null, set, perUnit, rows);
          return lab.read(out);
        },
        toleranceOf(type, rows) + rounding,
      );
    },
    200,
  );

  property<[number, number, number, number]>(
    "unitNorms",
    [smallSize, size, rowCount, seed],
    (units, width, rows, s) =>
      agree(s, async (lab) => {
        const out = lab.random([rows + 1, units]);
        lab.kernels.unitNorms(out, lab.random([rows + 1, units * width]), rows);
        return lab.read(out);
      }),
  );

  property<[number, number, boolean, number]>(
    "logSoftmax, in place and not",
    [size, rowCount, fc.boolean(), seed],
    (n, rows, inPlace, s) =>
      agree(s, async (lab) => {
        const spread = 10 ** (lab.next() * 4 - 2);
        const values = Array.from({ length: (rows + 1) * n }, () => (lab.next() * 2 - 1) * spread);
        const x = lab.floats([rows + 1, n], values);
        const out = inPlace ? x : lab.random([rows + 1, n]);
        lab.kernels.logSoftmax(out, x, rows);
        return lab.read(out);
      }),
  );
}

/**
 * What a backend has to show: every op agrees with the judge, and the guarantees of contract.ts hold bit for bit. A
 * scenario makes its tensors from a seed, so that running it on two backends, or twice, starts from the same numbers.
 */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Activation, type Kernels, phases } from "../../src/kernels/contract.ts";
import type { FloatDtype } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { expectClose, expectSame, type Filling, Lab, play, type Scenario } from "./lab.ts";

/** Sizes that no vector width divides, and those just beside one. */
const sizes = [1, 3, 7, 17, 31, 63, 65, 193];
const size = fc.constantFrom(...sizes);
const smallSize = fc.constantFrom(1, 3, 7, 17, 65);
const rowCount = fc.constantFrom(0, 1, 2, 5, 33);
const dtype = fc.constantFrom<FloatDtype>("f32", "f16", "bf16");
const seed = fc.integer({ min: 1, max: 2 ** 30 });
const filling = fc.constantFrom("none", "empty", "full", "random");

/**
 * The suite. `open` takes a number of threads where a backend has them. `tolerance` is what sums in float32 may be off,
 * relative to the largest output.
 */
export function conformance(
  name: string,
  open: (threads?: number) => Kernels,
  judge: () => Kernels,
  tolerance: number,
): void {
  describe(`kernels: ${name}`, () => {
    let kernels: Kernels;
    let reference: Kernels;
    beforeAll(() => {
      kernels = open();
      reference = judge();
    });
    afterAll(() => {
      kernels.dispose();
      reference.dispose();
    });

    async function agree(seedValue: number, scenario: Scenario<number[]>): Promise<void> {
      const actual = await play(kernels, seedValue, scenario);
      expectClose(actual, await play(reference, seedValue, scenario), tolerance);
    }

    async function agreeExactly<T>(seedValue: number, scenario: Scenario<T>): Promise<T> {
      const actual = await play(kernels, seedValue, scenario);
      expect(actual).toEqual(await play(reference, seedValue, scenario));
      return actual;
    }

    /** One property per op: `body` is run for many draws from the arbitraries. */
    function property<A extends [unknown, ...unknown[]]>(
      title: string,
      draws: { [K in keyof A]: fc.Arbitrary<A[K]> },
      body: (...values: A) => Promise<void>,
      numRuns = 60,
    ): void {
      it(title, () => fc.assert(fc.asyncProperty(...draws, body), { numRuns, seed: 20 }));
    }

    property<[number, number, FloatDtype, number]>(
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

    property<[number, number, FloatDtype, number]>(
      "addRows adds a stretch of a table",
      [size, rowCount, dtype, seed],
      (d, rows, type, s) =>
        agree(s, async (lab) => {
          const out = lab.random([rows + 1, d]);
          lab.kernels.addRows(out, lab.random([rows + 3, d], type), 2, rows);
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

    property<[number, number, number, number, FloatDtype, Filling, Activation, boolean, number]>(
      "product, dense and of active sets",
      [
        size,
        size,
        fc.constantFrom(1, 2, 3),
        rowCount,
        dtype,
        filling as fc.Arbitrary<Filling>,
        fc.constantFrom<Activation>("none", "relu"),
        fc.boolean(),
        seed,
      ],
      (units, k, perUnit, rows, type, fill, activation, biased, s) =>
        agree(s, async (lab) => {
          const n = units * perUnit;
          const out = lab.random([rows + 3, n]);
          const [x, weight] = [lab.random([rows + 1, k]), lab.random([n, k], type)];
          const bias = biased ? lab.random([n]) : null;
          const set = lab.set(units, rows, fill);
          lab.kernels.product(out, 2, x, weight, bias, activation, set, perUnit, rows);
          return lab.read(out);
        }),
      200,
    );

    property<[number, number, number, number, FloatDtype, Filling, boolean, number]>(
      "accumulate, dense and of active sets",
      [
        size,
        size,
        fc.constantFrom(1, 2, 3),
        rowCount,
        dtype,
        filling as fc.Arbitrary<Filling>,
        fc.boolean(),
        seed,
      ],
      (units, d, perUnit, rows, type, fill, biased, s) =>
        agree(s, async (lab) => {
          const n = units * perUnit;
          const out = lab.random([rows + 1, d]);
          const [a, weight] = [lab.random([rows + 1, n]), lab.random([n, d], type)];
          const set = lab.set(units, rows, fill);
          lab.kernels.accumulate(out, a, weight, biased ? lab.random([d]) : null, set, perUnit, rows);
          return lab.read(out);
        }),
      200,
    );

    property<[number, number, number, number, number, Filling, number]>(
      "attention over a cache, with shared keys and chosen heads",
      [
        smallSize,
        fc.constantFrom(1, 2, 3),
        fc.constantFrom(1, 2, 4),
        fc.constantFrom(0, 1, 6, 40),
        rowCount,
        filling as fc.Arbitrary<Filling>,
        seed,
      ],
      (headDim, kvHeads, group, position, rows, fill, s) =>
        agree(s, async (lab) => {
          const heads = kvHeads * group;
          const out = lab.random([rows + 1, heads * headDim]);
          const q = lab.random([rows + 1, heads * headDim]);
          const keys = lab.random([position + rows + 2, kvHeads * headDim]);
          const values = lab.random([position + rows + 2, kvHeads * headDim]);
          const set = lab.set(heads, rows, fill);
          lab.kernels.attention(out, q, keys, values, set, headDim, position, rows);
          return lab.read(out);
        }),
      100,
    );

    it("attention survives scores that overflow a naive exponential", () =>
      agree(5, async (lab) => {
        const q = lab.floats([1, 4], [400, -300, 200, 100]);
        const keys = lab.floats([3, 4], [1, 2, 3, 4, -5, 6, -7, 8, 9, -10, 11, -12]);
        const out = lab.random([1, 4]);
        lab.kernels.attention(out, q, keys, lab.random([3, 4]), null, 4, 2, 1);
        return lab.read(out);
      }));

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

    /** Scores on a coarse grid, so that there are ties, with zeros of both signs, infinities and NaN. */
    const scoreGrid = fc.constantFrom(-2, -1, -0.5, -0, 0, 0.25, 0.5, 1, 1e-45, -1e-45, Infinity, -Infinity);
    const score = fc.oneof(
      { weight: 6, arbitrary: scoreGrid },
      { weight: 3, arbitrary: fc.float({ noNaN: true }) },
      { weight: 1, arbitrary: fc.constant(Number.NaN) },
    );
    const scoreRows = fc
      .tuple(fc.constantFrom(1, 3, 17, 65, 193), fc.constantFrom(0, 1, 2, 5))
      .chain(([units, rows]) =>
        fc.tuple(
          fc.constant(units),
          fc.constant(rows),
          fc.array(score, { minLength: units * (rows + 1), maxLength: units * (rows + 1) }),
        ),
      );

    property<[[number, number, number[]], number]>(
      "selectTopK: ties to the lower unit, NaN last, ascending",
      [scoreRows, fc.double({ min: 0, max: 1, noNaN: true })],
      async ([units, rows, scores], share) => {
        const k = Math.round(share * units);
        await agreeExactly(1, async (lab) => {
          const set = lab.set(units, rows + 1, "random")!;
          lab.kernels.selectTopK(set, lab.floats([rows + 1, units], scores), k, rows);
          return lab.units(set, rows + 1);
        });
      },
      150,
    );

    property<[[number, number, number[]], number]>(
      "selectThreshold: strictly above, never NaN",
      [scoreRows, fc.oneof(scoreGrid, fc.double({ min: -3, max: 3, noNaN: true }), fc.constant(1 / 3))],
      async ([units, rows, scores], threshold) => {
        await agreeExactly(2, async (lab) => {
          const set = lab.set(units, rows + 1, "random")!;
          lab.kernels.selectThreshold(set, lab.floats([rows + 1, units], scores), threshold, rows);
          return lab.units(set, rows + 1);
        });
      },
    );

    it("selectThreshold compares with the threshold itself, not with its float32 neighbour", async () => {
      const kept = await agreeExactly(3, async (lab) => {
        const set = lab.set(3, 1, "empty")!;
        lab.kernels.selectThreshold(set, lab.floats([1, 3], [0.1, 0.3, -0.1]), 0.1, 1);
        return lab.units(set, 1);
      });
      expect(kept).toEqual([[0, 1]]); // 0.1 as float32 is above 0.1
    });

    property<[[number, number, number[]], boolean, number]>(
      "refine keeps the units whose value is positive",
      [scoreRows, fc.boolean(), seed],
      async ([units, rows, scores], inPlace, s) => {
        await agreeExactly(s, async (lab) => {
          const set = lab.set(units, rows + 1, "random")!;
          const out = inPlace ? set : lab.set(units, rows + 1, "random")!;
          lab.kernels.refine(out, set, lab.floats([rows + 1, units], scores), rows);
          return lab.units(out, rows + 1);
        });
      },
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

    property<[[number, number, number[]]]>(
      "argmax: the first of equals, never NaN",
      [scoreRows],
      async ([units, rows, scores]) => {
        const hasNumber = (r: number) => scores.slice(r * units, (r + 1) * units).some((v) => v > -Infinity);
        await agreeExactly(4, async (lab) => {
          const out = lab.integers([rows + 2], new Array(rows + 2).fill(-1));
          lab.kernels.argmax(out, lab.floats([rows + 1, units], scores), rows);
          return (await lab.read(out)).map((id, r) => (r < rows && !hasNumber(r) ? 0 : id));
        });
      },
    );

    it("argmax of nothing but NaN is 0", async () => {
      const lab = new Lab(kernels, 1);
      const out = lab.integers([1], [5]);
      kernels.argmax(out, lab.floats([1, 19], new Array(19).fill(Number.NaN)), 1);
      expect(await lab.read(out)).toEqual([0]);
    });

    // ---- Bit for bit ----

    /** The scenarios whose rows and sums are promised to be exact, at sizes that several threads share. */
    const exact: Record<
      string,
      (lab: Lab, rows: number, fill: Filling, type: FloatDtype) => Promise<number[]>
    > = {
      product: async (lab, rows, fill, type) => {
        const [x, weight] = [lab.random([rows, 257]), lab.random([519, 257], type)];
        const [out, bias] = [lab.random([rows, 519]), lab.random([519])];
        lab.kernels.product(out, 0, x, weight, bias, "relu", lab.set(173, rows, fill), 3, rows);
        return lab.read(out);
      },
      "product over a long sum": async (lab, rows, fill, type) => {
        const [x, weight] = [lab.random([rows, 1111]), lab.random([67, 1111], type)];
        const out = lab.random([rows, 67]);
        lab.kernels.product(out, 0, x, weight, null, "none", lab.set(67, rows, fill), 1, rows);
        return lab.read(out);
      },
      accumulate: async (lab, rows, fill, type) => {
        const [a, weight] = [lab.random([rows, 261]), lab.random([261, 523], type)];
        const [out, bias] = [lab.random([rows, 523]), lab.random([523])];
        lab.kernels.accumulate(out, a, weight, bias, lab.set(87, rows, fill), 3, rows);
        return lab.read(out);
      },
      attention: async (lab, rows, fill) => {
        const [q, out] = [lab.random([rows, 6 * 65]), lab.random([rows, 6 * 65])];
        const [keys, values] = [lab.random([150, 2 * 65]), lab.random([150, 2 * 65])];
        lab.kernels.attention(out, q, keys, values, lab.set(6, rows, fill), 65, 50, rows);
        return lab.read(out);
      },
      layerNorm: async (lab, rows) => {
        const x = lab.random([rows, 1003]);
        lab.kernels.layerNorm(x, x, lab.random([1003]), lab.random([1003]), 1e-5, rows);
        return lab.read(x);
      },
      logSoftmax: async (lab, rows) => {
        const x = lab.random([rows, 5003]);
        lab.kernels.logSoftmax(x, x, rows);
        return lab.read(x);
      },
    };
    const types: FloatDtype[] = ["f32", "f16", "bf16"];

    for (const [op, scenario] of Object.entries(exact)) {
      const [weighted, withSets] = [/product|accumulate/.test(op), !/layerNorm|logSoftmax/.test(op)];
      if (withSets)
        it(`${op}: the set of all units gives the bits of no set`, async () => {
          for (const type of weighted ? types : types.slice(0, 1))
            for (const rows of [1, 2, 3, 4, 5, 66]) {
              const withSet = await play(kernels, 7, (lab) => scenario(lab, rows, "full", type));
              const without = await play(kernels, 7, (lab) => scenario(lab, rows, "none", type));
              expectSame(withSet, without);
            }
        });

      it(`${op}: 1, 2 and 3 threads give the same bits`, async () => {
        const backends = [1, 2, 3].map((threads) => open(threads));
        for (const type of weighted ? types : types.slice(0, 1))
          for (const [rows, fill] of [
            [1, "none"],
            [1, "random"],
            [5, "none"],
            [5, "random"],
            [67, "none"],
          ] as const) {
            const [one, two, three] = await Promise.all(
              backends.map((backend) => play(backend, 8, (lab) => scenario(lab, rows, fill, type))),
            );
            expectSame(two!, one!);
            expectSame(three!, one!);
          }
        for (const backend of backends) backend.dispose();
      });
    }

    it("rows computed together are the rows computed one at a time", async () => {
      for (const type of types)
        for (const rows of [2, 3, 4, 7, 35, 65]) {
          const lab = new Lab(kernels, 9);
          const [n, k] = [131, 197];
          const [x, weight, back] = [
            lab.random([rows, k]),
            lab.random([n, k], type),
            lab.random([n, k], type),
          ];
          const [bias, norm] = [lab.random([n]), lab.random([k])];
          const run = async (from: Tensor, count: number) => {
            const [hidden, sum] = [kernels.allocate("f32", [count, n]), kernels.allocate("f32", [count, k])];
            kernels.layerNorm(sum, from, norm, null, 1e-5, count);
            kernels.product(hidden, 0, sum, weight, bias, "relu", null, 1, count);
            kernels.accumulate(sum, hidden, back, norm, null, 1, count);
            kernels.logSoftmax(sum, sum, count);
            return lab.read(sum);
          };
          const together = await run(x, rows);
          const one = kernels.allocate("f32", [1, k]);
          for (let r = 0; r < rows; r++) {
            kernels.copyRows(one, 0, x, r, 1);
            expectSame(await run(one, 1), together.slice(r * k, (r + 1) * k));
          }
        }
    });

    // ---- Order, errors, profile ----

    property<[number[], number]>(
      "sequences of ops see each other's results",
      [fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 4, maxLength: 14 }), seed],
      (steps, s) =>
        agree(s, async (lab) => {
          const [rows, d] = [3, 24];
          const x = [lab.random([rows, d]), lab.random([rows, d])] as const;
          const [hidden, weight, scores] = [
            lab.random([rows, d]),
            lab.random([d, d], "f16"),
            lab.random([rows, d]),
          ];
          const [keys, values] = [lab.random([9, d]), lab.random([9, d])];
          const [set, turned] = [lab.set(d, rows, "random")!, lab.kernels.allocate("f32", [d, rows])];
          const k = lab.kernels;
          steps.forEach((step, i) => {
            const [to, from] = [x[i % 2]!, x[(i + 1) % 2]!];
            if (step === 0) k.product(to, 0, from, weight, null, "relu", set, 1, rows);
            if (step === 1) k.product(hidden, 0, from, weight, null, "none", null, 1, rows);
            if (step === 2) k.accumulate(to, hidden, weight, null, set, 1, rows);
            if (step === 3) k.accumulate(to, from, weight, null, null, 1, rows - 1);
            if (step === 4) k.attention(to, from, keys, values, null, 8, 4, rows);
            if (step === 5) k.selectTopK(set, scores, i + 1, rows);
            if (step === 6) k.selectThreshold(set, scores, i / 20, rows);
            if (step === 7) k.refine(set, set, scores, rows);
            if (step === 8) k.copyRows(keys, i % 6, from, 0, rows);
            if (step === 9) k.transpose(turned, to, rows);
            k.layerNorm(to, to, null, null, 1e-5, rows);
          });
          return [...(await lab.read(x[0])), ...(await lab.read(x[1])), ...(await lab.read(turned))];
        }),
    );

    it("write and read take parts of a tensor, in the order of the ops", async () => {
      const lab = new Lab(kernels, 1);
      const [a, b] = [lab.floats([2, 3], [1, 2, 3, 4, 5, 6]), kernels.allocate("f32", [2, 3])];
      expect(await lab.read(b)).toEqual([0, 0, 0, 0, 0, 0]);
      kernels.copyRows(b, 0, a, 0, 2);
      kernels.write(a, Float32Array.of(9), 1);
      const part = new Float32Array(2);
      await kernels.read(a, part, 1);
      expect([...part]).toEqual([9, 3]);
      expect(await lab.read(b)).toEqual([1, 2, 3, 4, 5, 6]);
      await kernels.upload(b, async (bytes) => {
        new Float32Array(bytes.buffer, bytes.byteOffset, 6).set([6, 5, 4, 3, 2, 1]);
      });
      expect(await lab.read(b)).toEqual([6, 5, 4, 3, 2, 1]);
    });

    it("violated preconditions throw and change nothing", async () => {
      const lab = new Lab(kernels, 1);
      const [x, out] = [lab.random([2, 6]), lab.random([2, 8])];
      const [weight, bias, ids] = [lab.random([8, 6]), lab.random([8]), lab.integers([2], [0, 1])];
      const set = lab.set(8, 2, "full")!;
      const before = await lab.read(out);
      const k = kernels;
      const wrong: Record<string, () => void> = {
        "embedding width": () => k.embedding(out, weight, ids, 1),
        "embedding rows": () => k.embedding(out, lab.random([4, 8]), ids, 3),
        "addRows beyond": () => k.addRows(x, weight, 7, 2),
        "copyRows width": () => k.copyRows(out, 0, x, 0, 1),
        "copyRows negative": () => k.copyRows(x, -1, x, 0, 1),
        "transpose shape": () => k.transpose(out, x, 2),
        "layerNorm bias": () => k.layerNorm(out, out, null, lab.random([7]), 1e-5, 1),
        "product rows": () => k.product(out, 0, x, weight, bias, "none", null, 1, 3),
        "product outRow": () => k.product(out, 1, x, weight, bias, "none", null, 1, 2),
        "product fraction": () => k.product(out, 0, x, weight, bias, "none", null, 1, 1.5),
        "product units": () => k.product(out, 0, x, weight, bias, "none", set, 2, 2),
        "product dtype": () => k.product(out, 0, x, ids, bias, "none", null, 1, 1),
        "accumulate width": () => k.accumulate(out, x, weight, null, null, 1, 1),
        "attention cache": () => k.attention(out, out, out, out, null, 4, 1, 2),
        "attention headDim": () => k.attention(out, out, out, out, null, 3, 0, 1),
        "unitNorms width": () => k.unitNorms(out, x, 1),
        "selectTopK k": () => k.selectTopK(set, out, -1, 2),
        "selectTopK units": () => k.selectTopK(set, x, 1, 2),
        "selectThreshold rows": () => k.selectThreshold(set, out, 0, 3),
        "refine units": () => k.refine(set, set, x, 2),
        "logSoftmax shape": () => k.logSoftmax(out, x, 1),
        "argmax dtype": () => k.argmax(bias, x, 1),
      };
      for (const [what, call] of Object.entries(wrong)) expect(call, what).toThrow(RangeError);
      expect(await lab.read(out)).toEqual(before);
    });

    it("an id beyond the table throws, at the latest when something is read", async () => {
      for (const bad of [-1, 9, 2 ** 31 - 1]) {
        const lab = new Lab(kernels, 1);
        const [out, table] = [lab.random([2, 5]), lab.random([9, 5])];
        const ids = lab.integers([2], [0, bad]);
        const attempt = async () => {
          kernels.embedding(out, table, ids, 2);
          await lab.read(out);
        };
        await expect(attempt()).rejects.toThrow(/embedding/);
      }
    });

    it("a freed tensor cannot be used, and a new one does not stand in for it", async () => {
      const lab = new Lab(kernels, 1);
      const [x, y] = [lab.random([2, 3]), lab.random([2, 3])];
      kernels.free(x);
      const heir = lab.random([2, 3]);
      expect(() => kernels.copyRows(y, 0, x, 0, 1)).toThrow();
      expect(() => kernels.write(x, new Float32Array(6))).toThrow();
      expect(() => kernels.free(x)).toThrow();
      await expect(kernels.read(x, new Float32Array(6))).rejects.toThrow();
      kernels.copyRows(y, 0, heir, 0, 2);
      expect(await lab.read(y)).toEqual(await lab.read(heir));
    });

    it("a profile books all time to the marked phases", async () => {
      const lab = new Lab(kernels, 1);
      const x = lab.random([1, 193]);
      kernels.mark("rest");
      const start = performance.now();
      kernels.startProfile();
      kernels.logSoftmax(x, x, 1);
      kernels.mark("output");
      kernels.mark("mlp");
      const seconds = await kernels.stopProfile();
      const elapsed = (performance.now() - start) / 1000;
      expect(Object.keys(seconds).sort()).toEqual([...phases].sort());
      const total = Object.values(seconds).reduce((a, b) => a + b, 0);
      expect(seconds.output).toBeGreaterThan(0);
      expect(seconds.attention).toBe(0);
      expect(total).toBeLessThanOrEqual(elapsed);
    });
  });
}

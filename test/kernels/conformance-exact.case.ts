/** What holds bit for bit: whole sets, sets without zeros, shared sets, rows together, and numbers of threads. */
import fc from "fast-check";
import { it } from "vitest";
import type { ActiveSet } from "../../src/kernels/contract.ts";
import type { WeightDtype } from "../../src/tensor/dtype.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { expectSame } from "../helpers/same.ts";
import { Lab, type Place, play } from "./lab.ts";
import { exactRows, type Subject, seed } from "./subject.ts";

/** `row by row` lists for each row what `shared` lists for all. */
type Choice = "none" | "full" | "random" | "shared" | "row by row" | "shared full" | "shared empty";

function choose(lab: Lab, units: number, rows: number, choice: Choice): ActiveSet | null {
  if (choice === "none" || choice === "full" || choice === "random") return lab.set(units, rows, choice);
  if (choice === "shared full") return lab.set(units, rows, "full", true);
  if (choice === "shared empty") return lab.set(units, rows, "empty", true);
  return lab.sharedAndNot(units, rows, "random")[choice === "shared" ? 0 : 1];
}

export function exactness(subject: Subject): void {
  const { types } = subject;
  /** The scenarios whose rows and sums are promised to be exact, at sizes that several threads share. */
  const exact: Record<
    string,
    (lab: Lab, rows: number, choice: Choice, type: WeightDtype) => Promise<number[]>
  > = {
    product: async (lab, rows, choice, type) => {
      const [x, weight] = [lab.random([rows, 257]), lab.random([519, 257], type)];
      const [out, bias] = [lab.random([rows, 519]), lab.random([519])];
      lab.kernels.product(out, 0, x, weight, bias, "relu", choose(lab, 173, rows, choice), 3, rows);
      return lab.read(out);
    },
    "product over a long sum": async (lab, rows, choice, type) => {
      const [x, weight] = [lab.random([rows, 1111]), lab.random([67, 1111], type)];
      const out = lab.random([rows, 67]);
      lab.kernels.product(out, 0, x, weight, null, "none", choose(lab, 67, rows, choice), 1, rows);
      return lab.read(out);
    },
    accumulate: async (lab, rows, choice, type) => {
      const [a, weight] = [lab.random([rows, 522]), lab.random([522, 523], type)];
      const [out, bias] = [lab.random([rows, 523]), lab.random([523])];
      lab.kernels.accumulate(out, a, weight, bias, choose(lab, 174, rows, choice), 3, rows);
      return lab.read(out);
    },
    attention: async (lab, rows, choice) => {
      const [q, out] = [lab.random([rows, 6 * 65]), lab.random([rows, 6 * 65])];
      const [keys, values] = [lab.random([150, 2 * 65]), lab.random([150, 2 * 65])];
      const places = Array.from({ length: rows }, (_, r): Place => [0, 50 + r]);
      const [placement] = lab.places(places, 1, 150, 25);
      lab.kernels.attention(out, q, keys, values, choose(lab, 6, rows, choice), 65, placement, rows);
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

  for (const [op, scenario] of Object.entries(exact)) {
    const [weighted, withSets] = [/product|accumulate/.test(op), !/layerNorm|logSoftmax/.test(op)];
    if (withSets)
      it(`${op}: the set of all units gives the bits of no set`, async () => {
        const { kernels } = subject;
        for (const type of weighted ? types : types.slice(0, 1))
          for (const rows of [1, 2, 3, 4, 5, 66]) {
            const withSet = await play(kernels, 7, (lab) => scenario(lab, rows, "full", type));
            const shared = await play(kernels, 7, (lab) => scenario(lab, rows, "shared full", type));
            const without = await play(kernels, 7, (lab) => scenario(lab, rows, "none", type));
            if (!weighted || exactRows(type, rows)) expectSame(withSet, without);
            expectSame(shared, without);
          }
      });

    if (withSets)
      it(`${op}: a shared set gives the bits of the same set row by row`, async () => {
        const { kernels } = subject;
        for (const type of weighted ? types : types.slice(0, 1))
          for (const rows of [2, 5, 33]) {
            if (weighted && !exactRows(type, rows)) continue;
            const shared = await play(kernels, 7, (lab) => scenario(lab, rows, "shared", type));
            expectSame(shared, await play(kernels, 7, (lab) => scenario(lab, rows, "row by row", type)));
          }
      });

    it.runIf(subject.isThreaded)(`${op}: 1, 2 and 3 threads give the same bits`, async () => {
      const backends = [1, 2, 3].map((threads) => subject.open(threads));
      for (const type of weighted ? types : types.slice(0, 1))
        for (const [rows, choice] of [
          [1, "none"],
          [1, "random"],
          [5, "none"],
          [5, "random"],
          [67, "none"],
          [37, "shared"],
        ] as const) {
          const [one, two, three] = await Promise.all(
            backends.map((backend) => play(backend, 8, (lab) => scenario(lab, rows, choice, type))),
          );
          expectSame(two!, one!);
          expectSame(three!, one!);
        }
      for (const backend of backends) backend.dispose();
    });
  }

  // Below and above the number of rows from which threads share the sums of one output. Where several factors are
  // rounded together nothing is promised: which those are depends on the set.
  const exactSums = types.filter((type) => subject.factorRounding[type] === undefined);
  subject.property<[number, number, number, WeightDtype, "none" | "full" | "random", number]>(
    "accumulate: units whose factor is zero may be left out",
    [
      fc.constantFrom(65, 171, 512, 523, 1031),
      fc.constantFrom(1, 3),
      fc.constantFrom(1, 2, 9),
      fc.constantFrom(...exactSums),
      fc.constantFrom("none", "full", "random"),
      seed,
    ],
    async (units, perUnit, rows, type, choice, s) => {
      const [n, d] = [units * perUnit, 133];
      const lab = new Lab(subject.kernels, s);
      const idle = Array.from({ length: rows * units }, () => lab.next() < 0.6);
      const a = lab.floats(
        [rows, n],
        Array.from({ length: rows * n }, (_, i) => (idle[Math.floor(i / perUnit)] ? 0 : lab.next() - 0.5)),
      );
      const [weight, bias, start] = [lab.random([n, d], type), lab.random([d]), lab.random([rows, d])];
      const sum = async (set: ActiveSet | null) => {
        const out = lab.random([rows, d]);
        lab.kernels.copyRows(out, 0, start, 0, rows);
        lab.kernels.accumulate(out, a, weight, bias, set, perUnit, rows);
        return lab.read(out);
      };
      const whole = lab.set(units, rows, choice);
      const all = Array.from({ length: units }, (_, u) => u);
      const listed = whole === null ? Array<number[]>(rows).fill(all) : await lab.units(whole, rows);
      const needed = listed.map((chosen, r) => chosen.filter((u) => !idle[r * units + u]));
      if (exactRows(type, rows)) expectSame(await sum(lab.setOf(units, needed)), await sum(whole));
      lab.free();
    },
    80,
  );

  it("rows computed together are the rows computed one at a time", async () => {
    const { kernels } = subject;
    for (const type of types)
      for (const rows of type === "f32" || type === "f16" ? [2, 3, 4, 7, 35, 65] : [2, 3, 4, 7, 15]) {
        const lab = new Lab(kernels, 9);
        const [n, k] = [131, 197];
        const [x, weight, back] = [lab.random([rows, k]), lab.random([n, k], type), lab.random([n, k], type)];
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
}

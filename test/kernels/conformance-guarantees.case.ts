/** Order, errors and profile. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { phases, type Recovery } from "../../src/kernels/contract.ts";
import { Lab, type Place } from "./lab.ts";
import { type Subject, seed } from "./subject.ts";

export function guarantees(subject: Subject): void {
  const { property, agree } = subject;

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
        const [placement] = lab.places(
          [4, 5, 6].map((p): Place => [0, p]),
          1,
          9,
          3,
        );
        const [set, turned] = [lab.set(d, rows, "random")!, lab.kernels.allocate("f32", [d, rows])];
        const k = lab.kernels;
        steps.forEach((step, i) => {
          const [to, from] = [x[i % 2]!, x[(i + 1) % 2]!];
          if (step === 0) k.product(to, 0, from, weight, null, "relu", set, 1, rows);
          if (step === 1) k.product(hidden, 0, from, weight, null, "none", null, 1, rows);
          if (step === 2) k.accumulate(to, hidden, weight, null, set, 1, rows);
          if (step === 3) k.accumulate(to, from, weight, null, null, 1, rows - 1);
          if (step === 4) k.attention(to, from, keys, values, null, 8, placement, rows);
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

  property<[number, number, number]>(
    "forked ops give what they give one by one",
    [fc.integer({ min: 1, max: 5 }), fc.constantFrom(8, 40, 104), seed],
    (rows, d, s) =>
      agree(s, async (lab) => {
        const k = lab.kernels;
        const [x, a, b] = [lab.random([rows, d]), lab.random([rows, d]), lab.random([rows, d])];
        const [weight, wide] = [lab.random([d, d], "f16"), lab.random([4 * d, d], "bf16")];
        const [keys, values] = [lab.random([rows, d]), lab.random([rows, d])];
        const copied = lab.random([rows, d]);
        const logits = k.allocate("f32", [rows, 4 * d]);
        const [set, chosen] = [lab.set(d, rows, "random")!, lab.set(4 * d, rows, "full")!];
        const [placement] = lab.places(
          Array.from({ length: rows }, (_, p): Place => [0, p]),
          1,
          rows,
          0,
        );
        k.fork();
        k.product(a, 0, x, weight, null, "relu", set, 1, rows);
        k.product(logits, 0, x, wide, null, "none", null, 1, rows);
        k.copyRows(copied, 0, x, 0, rows);
        k.attention(b, x, keys, values, null, 8, placement, rows);
        k.join();
        k.fork();
        k.accumulate(x, a, weight, null, null, 1, rows);
        k.selectThreshold(chosen, logits, 0, rows);
        k.join();
        k.product(logits, 0, x, wide, null, "none", chosen, 1, rows);
        const all = await Promise.all([x, a, b, logits, copied].map((t) => lab.read(t)));
        return all.flat();
      }),
  );

  it("write and read take parts of a tensor, in the order of the ops", async () => {
    const { kernels } = subject;
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
    const { kernels } = subject;
    const lab = new Lab(kernels, 1);
    const [x, out] = [lab.random([2, 6]), lab.random([2, 8])];
    const [weight, bias, ids] = [lab.random([8, 6]), lab.random([8]), lab.integers([2], [0, 1])];
    const set = lab.set(8, 2, "full")!;
    const before = await lab.read(out);
    const k = kernels;
    const [placement] = lab.places(
      [0, 1].map((p): Place => [0, p]),
      1,
      2,
      0,
    );
    const square = lab.random([8, 8]);
    const recovery: Recovery = {
      inputs: lab.random([2, 8]),
      filled: lab.integers([1, 4], [0, 0, 0, 0]),
      refresh: 2,
      counts: lab.integers([1, 2], [0, 0]),
      slot: 0,
    };
    const recover = (change: Partial<Recovery>, w = square, headDim = 2) =>
      k.recover(out, out, out, w, null, w, null, null, headDim, { ...recovery, ...change }, placement, 2);
    const wrong: Record<string, () => void> = {
      "embedding width": () => k.embedding(out, weight, ids, 1),
      "embedding rows": () => k.embedding(out, lab.random([4, 8]), ids, 3),
      "addRows beyond": () => k.addRows(x, weight, lab.integers([1], [0]), 0, 2),
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
      "addRows width": () => k.addRows(out, weight, ids, 0, 2),
      "storeRows width": () => k.storeRows(x, out, 2, placement, 2),
      "storeRows rows": () => k.storeRows(out, out, 2, placement, 3),
      "storeRows headDim": () => k.storeRows(out, out, 3, placement, 2),
      "attention positions": () =>
        k.attention(out, out, out, out, null, 4, { ...placement, positions: bias }, 2),
      "attention pages": () => k.attention(out, out, out, out, null, 4, { ...placement, pageRows: 0 }, 2),
      "attention headDim": () => k.attention(out, out, out, out, null, 3, placement, 1),
      "recover weights": () => recover({}, weight, 2),
      "recover refresh": () => recover({ refresh: 3 }),
      "recover counts": () => recover({ slot: 1 }),
      "recover filled": () => recover({ filled: ids }),
      "recover inputs": () => recover({ inputs: lab.random([2, 4]) }),
      "recover headDim": () => recover({}, square, 3),
      "refine shared": () => k.refine({ ...set, shared: true }, set, out, 2),
      "unite unshared": () => k.unite(set, set, 2),
      "unite shared": () => k.unite({ ...set, shared: true }, { ...set, shared: true }, 2),
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
    const { kernels } = subject;
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

  it("a row outside the table throws, at the latest when something is read", async () => {
    for (const [index, offset] of [
      [-3, 2],
      [7, 2],
      [0, 9],
      [0, 2 ** 40],
      [2 ** 31 - 1, 2 ** 31 - 1],
    ] as const) {
      const { kernels } = subject;
      const lab = new Lab(kernels, 1);
      const [out, table] = [lab.random([2, 5]), lab.random([9, 5])];
      const attempt = async () => {
        kernels.addRows(out, table, lab.integers([2], [0, index]), offset, 2);
        await lab.read(out);
      };
      await expect(attempt()).rejects.toThrow(/addRows/);
    }
  });

  it("a freed tensor cannot be used, and a new one does not stand in for it", async () => {
    const { kernels } = subject;
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
    const { kernels } = subject;
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
}

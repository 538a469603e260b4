/** Screening: whatever it leaves out is not among the best. */
import fc from "fast-check";
import { expect } from "vitest";
import { makeScreen, screenedLogits } from "../../src/layers/output-layer.ts";
import type { FloatDtype } from "../../src/tensor/dtype.ts";
import { Lab } from "./lab.ts";
import { type Subject, seed } from "./subject.ts";

/** Units in the order of selectTopK: the largest first, the lower unit of equals. */
const ranked = (logits: readonly number[]): number[] =>
  logits.map((_, unit) => unit).sort((a, b) => logits[b]! - logits[a]! || a - b);

export function screening(subject: Subject): void {
  const { property } = subject;

  property<[number, number, number, FloatDtype, number, number, number]>(
    "the best k of screened logits are those of all logits",
    [
      fc.integer({ min: 1, max: 400 }),
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 3 }),
      fc.constantFrom<FloatDtype>("f32", "f16", "bf16"),
      fc.integer({ min: 1, max: 12 }),
      fc.constantFrom(1, 1e-30, 1e-38, 1e6),
      seed,
    ],
    async (words, width, rows, dtype, k, size, s) => {
      const lab = new Lab(subject.kernels, s);
      const { kernels } = subject;
      const weight = lab.random([words, width], dtype);
      const x = lab.floats(
        [rows, width],
        (await lab.read(lab.random([rows, width]))).map((v) => v * size),
      );
      const [full, out] = [kernels.allocate("f32", [rows, words]), kernels.allocate("f32", [rows, words])];
      const scores = kernels.allocate("f32", [rows, words]);
      const screen = makeScreen(kernels, weight);
      const candidates = lab.set(words, rows, "full")!;
      kernels.product(full, 0, x, weight, null, "none", null, 1, rows);
      const buffers = { candidates, approximate: scores };
      screenedLogits(kernels, out, x, weight, screen, buffers, k, rows);
      const [all, some] = [await lab.read(full), await lab.read(out)];
      for (let r = 0; r < rows; r++) {
        const [a, b] = [all, some].map((values) => values.slice(r * words, (r + 1) * words)) as [
          number[],
          number[],
        ];
        const best = ranked(a).slice(0, k);
        expect(ranked(b).slice(0, k)).toEqual(best);
        for (const word of best) expect(b[word]).toBe(a[word]);
        for (const [word, value] of b.entries())
          if (value !== a[word]) expect(value).toBe(Number.NEGATIVE_INFINITY);
      }
    },
  );
}

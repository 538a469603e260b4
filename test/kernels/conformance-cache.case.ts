/** Ops on the key/value cache: storing rows, and attending to them. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { FloatDtype } from "../../src/tensor/dtype.ts";
import { expectSame } from "../helpers/same.ts";
import { type Filling, Lab, type Place, play } from "./lab.ts";
import { filling, rowCount, type Subject, seed, smallSize } from "./subject.ts";

/** Rows of a page; 0: as many as a sequence has positions. */
export const pageRows = fc.constantFrom(0, 1, 3, 16);

/** `rows` rows in up to three sequences, which have `before` positions and a few more behind them. */
export function placesOf(lab: Lab, rows: number, before: number): Place[] {
  const places: Place[] = [];
  for (let sequence = 2; sequence >= 0; sequence--) {
    const left = rows - places.length;
    const count = sequence === 0 ? left : Math.floor(lab.next() * (left + 1));
    const first = before + Math.floor(lab.next() * 5);
    for (let i = 0; i < count; i++) places.push([sequence, first + i]);
  }
  return places;
}

export function cacheOps(subject: Subject): void {
  const { property, agree, agreeExactly, cacheDtype } = subject;

  property<[number, number, number, number, FloatDtype, number]>(
    "storeRows puts heads where their pages are",
    [smallSize, fc.constantFrom(1, 2, 3), rowCount, pageRows, cacheDtype, seed],
    async (headDim, kvHeads, rows, page, type, s) => {
      await agreeExactly(s, async (lab) => {
        const [placement, cacheRows] = lab.places(placesOf(lab, rows, 3), 3, 45, page);
        const d = kvHeads * headDim;
        const cache = lab.random([cacheRows, d], type);
        lab.kernels.storeRows(cache, lab.random([rows + 1, d]), headDim, placement, rows);
        return lab.read(cache);
      });
    },
  );

  property<[number, number, number, number, number, number, FloatDtype, Filling, boolean, number]>(
    "attention over a cache, with shared keys and chosen heads",
    [
      smallSize,
      fc.constantFrom(1, 2, 3),
      fc.constantFrom(1, 2, 4),
      fc.constantFrom(0, 1, 6, 40),
      rowCount,
      pageRows,
      cacheDtype,
      filling,
      fc.boolean(),
      seed,
    ],
    (headDim, kvHeads, group, before, rows, page, type, fill, shared, s) =>
      agree(s, async (lab) => {
        const heads = kvHeads * group;
        const out = lab.random([rows + 1, heads * headDim]);
        const q = lab.random([rows + 1, heads * headDim]);
        const [placement, cacheRows] = lab.places(placesOf(lab, rows, before), 3, before + rows + 6, page);
        const keys = lab.random([cacheRows, kvHeads * headDim], type);
        const values = lab.random([cacheRows, kvHeads * headDim], type);
        const set = lab.set(heads, rows, fill, shared);
        lab.kernels.attention(out, q, keys, values, set, headDim, placement, rows);
        return lab.read(out);
      }),
    120,
  );

  it("attention gives the same bits however the positions are paged", async () => {
    for (const [headDim, rows] of [
      [17, 5],
      [64, 1],
      [64, 33],
    ] as const) {
      const width = 2 * headDim;
      const paged = (page: number) =>
        play(subject.kernels, 11, async (lab) => {
          const [q, out] = [lab.random([rows, width]), lab.random([rows, width])];
          const [keys, values] = [lab.random([130, width]), lab.random([130, width])];
          const rest = new Lab(lab.kernels, page + 1); // so that q, keys and values do not depend on the pages
          const places = Array.from({ length: rows }, (_, r): Place => [1, 97 - rows + r]);
          const [placement, cacheRows] = rest.places(places, 2, 100, page);
          const all = Array.from({ length: 100 }, (_, p): Place => [1, p]);
          const [filling] = rest.places(all, 2, 100, page);
          const caches = [keys, values].map((from) => {
            const cache = rest.random([cacheRows, width]);
            lab.kernels.storeRows(cache, from, headDim, { ...filling, pages: placement.pages }, 100);
            return cache;
          });
          lab.kernels.attention(out, q, caches[0]!, caches[1]!, null, headDim, placement, rows);
          const result = await lab.read(out);
          rest.free();
          return result;
        });
      const whole = await paged(0);
      for (const page of [1, 3, 8, 16, 50]) expectSame(await paged(page), whole);
    }
  });

  it("attention survives scores that overflow a naive exponential", () =>
    agree(5, async (lab) => {
      const q = lab.floats([1, 4], [400, -300, 200, 100]);
      const keys = lab.floats([3, 4], [1, 2, 3, 4, -5, 6, -7, 8, 9, -10, 11, -12]);
      const out = lab.random([1, 4]);
      const [placement] = lab.places([[0, 2]], 1, 3, 0);
      lab.kernels.attention(out, q, keys, lab.random([3, 4]), null, 4, placement, 1);
      return lab.read(out);
    }));

  it("a place outside the cache throws, at the latest when something is read", async () => {
    const { kernels } = subject;
    const wrong: [string, number, number, number[]][] = [
      ["sequence", 2, 0, [0, 1, 2, 3]],
      ["negative sequence", -1, 0, [0, 1, 2, 3]],
      ["position", 0, 8, [0, 1, 2, 3]],
      ["negative position", 0, -1, [0, 1, 2, 3]],
      ["page", 1, 5, [0, 1, 2, 5]],
      ["page that ends outside", 1, 5, [0, 1, 2, 4]],
      ["far page", 1, 5, [0, 1, 2, 2 ** 31 - 1]],
      ["negative page", 1, 7, [0, 1, 2, -1]],
    ];
    for (const [what, sequence, position, pages] of wrong) {
      const lab = new Lab(kernels, 1);
      const [x, cache, out] = [lab.random([1, 6]), lab.random([19, 6]), lab.random([1, 6])];
      const placement = {
        sequences: lab.integers([1], [sequence]),
        positions: lab.integers([1], [position]),
        pages: lab.integers([2, 2], pages),
        pageRows: 4,
      };
      const before = await lab.read(cache);
      const attempt = async (op: () => void) => {
        op();
        await lab.read(out);
      };
      await expect(
        attempt(() => kernels.storeRows(cache, x, 3, placement, 1)),
        what,
      ).rejects.toThrow(/outside/);
      const attend = () => kernels.attention(out, x, cache, cache, null, 3, placement, 1);
      if (position >= 0) await expect(attempt(attend), what).rejects.toThrow(/outside/);
      expectSame(await lab.read(cache), before);
      lab.free();
    }
  });
}

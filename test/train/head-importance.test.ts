/** Which captured rows heads are weighed on, and what they are worth there. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Engine, load } from "../../src/load.ts";
import { createRng } from "../../src/sampling/rng.ts";
import { measureHeadImportance, withImportance } from "../../src/train/head-importance.ts";
import type { Rows } from "../../src/train/rows.ts";
import { importances, overLargest } from "../../src/train/shadow/importance.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { tinyVariant, writeTinyModel } from "../helpers/tiny-model.ts";

const folder = temporaryFolder();
let engine: Engine;
beforeAll(async () => {
  await writeTinyModel(folder);
  engine = await load(folder, { backend: fastestBackend });
});
afterAll(() => engine?.dispose());

const documentsOf = (count: number, length: number): Int32Array[] => {
  const rng = createRng(1);
  const next = () => rng.nextInt(tinyVariant.vocab_size);
  return Array.from({ length: count }, () =>
    Int32Array.from({ length: 2 + rng.nextInt(length) }, (_, i) => (i === 0 ? 2 : next())),
  );
};

it("knows the rows of documents to train on, but their last, over the largest of the row and layer", async () => {
  const documents = documentsOf(41, 6);
  const seen: number[] = [];
  const found = await measureHeadImportance(engine, documents, (done) => seen.push(done), undefined);
  const expected: number[] = [];
  const starts = new Map<number, number>();
  let row = 0;
  for (const [number, ids] of documents.entries()) {
    starts.set(number, row);
    if (number % 20 !== 19) for (let i = 0; i + 1 < ids.length; i++) expected.push(row + i);
    row += ids.length;
  }
  expect([...found.rows]).toEqual(expected);
  expect(seen).toHaveLength(39);

  const heads = tinyVariant.num_attention_heads;
  await importances(engine.kernels, folder, [documents[20]!], (_document, _neurons, perLayer) => {
    for (const [layer, values] of perLayer.entries()) {
      const scaled = overLargest(values, heads);
      for (let i = 0; i + 1 < documents[20]!.length; i++)
        for (let head = 0; head < heads; head++)
          expect(found.value(layer, starts.get(20)! + i, head)).toBe(scaled[i * heads + head]);
    }
  });

  const rows: Rows = {
    width: 1,
    units: heads,
    inputs: new Uint16Array(row),
    value: () => -1,
    train: Int32Array.from({ length: row }, (_, i) => i),
    heldOut: new Int32Array(0),
  };
  const known = withImportance(rows, found, 1);
  expect(known.train).toBe(found.rows);
  expect(known.value(expected[3]!, 2)).toBe(found.value(1, expected[3]!, 2));
});

it("spreads over all documents where there are too many", async () => {
  const documents = Array.from({ length: 300 }, () => documentsOf(1, 1)[0]!);
  const long = documents.map((_, i) =>
    Int32Array.from({ length: 60 }, (_id, t) => (t === 0 ? 2 : (i + t) % 200)),
  );
  let total = 0;
  const found = await measureHeadImportance(engine, long, (_done, all) => (total = all), undefined);
  // 285 documents of 60 ids: every second of them.
  expect(total).toBe(143 * 60);
  expect(found.rows.length).toBe(143 * 59);
  expect(found.rows.at(-1)!).toBeGreaterThan(290 * 60);
});

it("divides rows by their largest, and leaves rows of zeros", () => {
  expect([...overLargest(Float32Array.of(1, 4, 0, 0, 3, 1.5), 2)]).toEqual([0.25, 1, 0, 0, 1, 0.5]);
});

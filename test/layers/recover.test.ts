/** Keys and values recovered late are those computed in time; sequences in a batch are those on their own. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import type { Model } from "../../src/models/model.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { type AttentionPolicy, denseKv, type Selector } from "../../src/sparsity/selector.ts";
import { Tally } from "../../src/sparsity/tally.ts";
import { availableBackends } from "../helpers/backends.ts";
import { openModel } from "../helpers/open-model.ts";
import { plain, writeRandomCheckpoint } from "../helpers/random-checkpoint.ts";
import { expectSame } from "../helpers/same.ts";
import { toldSelector } from "../helpers/told-selector.ts";

const folder = mkdtempSync(join(tmpdir(), "dejavu-recover-"));
beforeAll(async () => {
  await writeRandomCheckpoint(folder, plain, "f16", 3);
});
afterAll(() => rmSync(folder, { recursive: true }));

const { num_attention_heads: heads, num_hidden_layers: layers, ffn_dim: neurons, vocab_size: vocab } = plain;
const everyNeuron = Array.from({ length: neurons }, (_, i) => i);

describe.each(availableBackends)("%s", (backend) => {
  let model: Model;
  beforeAll(async () => {
    model = await openModel(
      await openKernels({ backend, ...(backend === "native" && { threads: 2 }) }),
      folder,
    );
  });
  afterAll(() => model.kernels.dispose());

  /** Bit h of pattern[layer][position] says whether head h is computed there. */
  const chooseHeads = (pattern: number[][], attention: AttentionPolicy): Selector =>
    toldSelector(
      model.kernels,
      (unit, layer, position) =>
        unit === "neurons"
          ? everyNeuron
          : Array.from({ length: heads }, (_, h) => h).filter((h) => (pattern[layer]![position]! >> h) & 1),
      attention,
    );

  async function run(ids: number[], selector: Selector, blocks: number[], prompt: number) {
    const state = model.createState({ capacity: ids.length, maxRows: 16, attention: selector.attention });
    const tally = new Tally(state.sets);
    const logits = new Float32Array(ids.length * vocab);
    let at = 0;
    for (const rows of blocks) {
      const chosen = at < prompt ? denseSelector : selector;
      model.forward(state, Int32Array.from(ids.slice(at, at + rows)), chosen, "all");
      await model.kernels.read(state.logits, logits.subarray(at * vocab, (at + rows) * vocab));
      await tally.add(model.kernels, rows);
      at += rows;
    }
    const bytes = state.cacheBytes;
    state.dispose();
    return { logits, tally, bytes };
  }

  const length = 14;
  const patterns = fc.array(
    fc.array(fc.integer({ min: 0, max: 2 ** heads - 1 }), { minLength: length, maxLength: length }),
    { minLength: layers, maxLength: layers },
  );
  const ids = fc.array(fc.integer({ min: 0, max: vocab - 1 }), { minLength: length, maxLength: length });

  it("recovers exactly what dense-kv computes, whatever heads are skipped, in blocks or one by one", async () => {
    await fc.assert(
      fc.asyncProperty(
        patterns,
        ids,
        fc.constantFrom<[number[], number]>(
          [Array(length).fill(1), 0],
          [[5, ...Array(length - 5).fill(1)], 5],
          [[3, 4, 1, 1, 5], 3],
          [[7, 7], 0],
        ),
        fc.constantFrom(1, 2, 4, 7, undefined),
        async (pattern, tokens, [blocks, prompt], refresh) => {
          const direct = await run(tokens, chooseHeads(pattern, denseKv), blocks, prompt);
          const recover: AttentionPolicy = { attention: "recover", ...(refresh && { refresh }) };
          const late = await run(tokens, chooseHeads(pattern, recover), blocks, prompt);
          expectSame(late.logits, direct.logits);
        },
      ),
      { numRuns: 25, seed: 5 },
    );
  });

  it("counts the heads whose keys and values it computed", async () => {
    const tokens = Array.from({ length }, (_, i) => i + 2);
    const only = (mask: number) => Array.from({ length: layers }, () => Array(length).fill(mask));
    const blocks = Array(length).fill(1);
    const one = await run(tokens, chooseHeads(only(0b010), { attention: "recover" }), blocks, 0);
    // Without a refresh the last position of the capacity is the only one at which all heads catch up.
    expect(one.tally.total("recovered", 0)).toBe(length - 1 + heads);
    const refreshed = await run(
      tokens,
      chooseHeads(only(0b010), { attention: "recover", refresh: 7 }),
      blocks,
      0,
    );
    expect(refreshed.tally.total("recovered", 1)).toBe(length - 2 + 2 * heads);
    const dense = await run(tokens, chooseHeads(only(0b010), denseKv), blocks, 0);
    expect(dense.tally.total("recovered", 1)).toBe(length * heads);
    expect(refreshed.bytes).toBeLessThan(one.bytes);
    expect(dense.bytes).toBeLessThan(refreshed.bytes);
  });

  it("gives each sequence of a batch what it gets alone, while others join and leave", async () => {
    const tokens = [0, 1, 2].map((s) => Array.from({ length: 11 }, (_, i) => (7 * s + 3 * i + 2) % vocab));
    const alone = await Promise.all(tokens.map((t) => run(t, denseSelector, [t.length], t.length)));
    for (const attention of [denseKv, { attention: "recover" } as const]) {
      const selector = chooseHeads(
        Array.from({ length: layers }, () => Array(length).fill(2 ** heads - 1)),
        attention,
      );
      const state = model.createState({ capacity: 11, maxRows: 8, sequences: 2, attention });
      const logits = new Float32Array(vocab);
      const step = async (rows: [sequence: number, text: number][]) => {
        const next = rows.map(([s, t]) => tokens[t]![state.position(s)]!);
        const at = rows.map(([s]) => state.position(s));
        const places = Int32Array.from(rows, ([s]) => s);
        model.forward(state, Int32Array.from(next), selector, "all", places);
        for (const [r, [, t]] of rows.entries()) {
          await model.kernels.read(state.logits, logits, r * vocab);
          expectSame(logits, alone[t]!.logits.slice(at[r]! * vocab, (at[r]! + 1) * vocab));
        }
      };
      for (let i = 0; i < 3; i++) await step([[0, 0]]);
      for (let i = 0; i < 6; i++)
        await step([
          [1, 1],
          [0, 0],
        ]);
      state.clear(0);
      for (let i = 0; i < 5; i++)
        await step([
          [0, 2],
          [1, 1],
        ]);
      state.dispose();
    }
  });

  it("says which sequence is full before anything changes", () => {
    const state = model.createState({ capacity: 40, maxRows: 48, sequences: 3, totalPositions: 32 });
    const forward = (rows: number, sequence: number) =>
      model.forward(state, new Int32Array(rows), denseSelector, "none", new Int32Array(rows).fill(sequence));
    forward(33, 1);
    expect(() => forward(8, 1)).toThrow("sequence 1 is full: its capacity is 40");
    expect(state.position(1)).toBe(33);
    forward(1, 0);
    expect(() => forward(1, 2)).toThrow("the cache is full");
    expect(state.position(2)).toBe(0);
    state.clear(1);
    forward(1, 2);
    expect(state.position(2)).toBe(1);
    state.dispose();
  });
});

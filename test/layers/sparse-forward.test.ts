/** Blocks compute the units they are told, and nothing else changes: against a naive float64 forward. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import type { Model } from "../../src/models/model.ts";
import { createRng } from "../../src/sampling/rng.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import type { BlockView, Selector, Source } from "../../src/sparsity/selector.ts";
import { Tally } from "../../src/sparsity/tally.ts";
import { availableBackends } from "../helpers/backends.ts";
import { float64Logits } from "../helpers/float64-opt.ts";
import { type Choose, float64SparseRun } from "../helpers/float64-sparse-opt.ts";
import { maxDifference } from "../helpers/golden.ts";
import { openModel } from "../helpers/open-model.ts";
import { plain, type Tensors, writeRandomCheckpoint } from "../helpers/random-checkpoint.ts";
import { expectSame } from "../helpers/same.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { toldSelector } from "../helpers/told-selector.ts";

const folder = temporaryFolder();
const ids = [2, 5, 36, 0, 17, 17, 4, 9, 30, 1, 12, 8, 3];
let tensors: Tensors;
beforeAll(async () => {
  tensors = await writeRandomCheckpoint(folder, plain, "f16");
});

/** Random sets of every size, the empty and the full one included; null now and then. */
function randomChoice(seed: number): Choose {
  const rng = createRng(seed);
  const chosen = new Map<string, readonly number[] | null>();
  return (unit, layer, token, worth) => {
    const key = `${unit} ${layer} ${token}`;
    if (!chosen.has(key)) {
      const share = [0, 0.1, 0.5, 0.9, 1][rng.nextInt(5)]!;
      chosen.set(
        key,
        [...worth.keys()].filter(() => rng.next() < share),
      );
    }
    return chosen.get(key)!;
  };
}

describe.each(availableBackends)("%s", (backend) => {
  let model: Model;
  beforeAll(async () => {
    model = await openModel(
      await openKernels({ backend, ...(backend === "native" && { threads: 2 }) }),
      folder,
    );
  });
  afterAll(() => model.kernels.dispose());

  /** Runs the ids under a selector, in blocks of the sizes given. */
  async function run(selector: Selector, blocks: readonly number[]) {
    const { kernels } = model;
    const { vocabSize } = model.shape;
    const state = model.createState({ capacity: ids.length, maxRows: 64, cacheDtype: "f32" });
    const tally = new Tally(state.sets);
    const logits = new Float32Array(ids.length * vocabSize);
    let at = 0;
    for (const rows of blocks) {
      model.forward(state, Int32Array.from(ids.slice(at, at + rows)), selector, "all");
      await kernels.read(state.logits, logits.subarray(at * vocabSize, (at + rows) * vocabSize));
      await tally.add(kernels, rows);
      at += rows;
    }
    state.dispose();
    return { logits, tally };
  }

  const told = (choose: Choose): Selector =>
    toldSelector(
      model.kernels,
      (unit, layer, token, units) => choose(unit, layer, token, Array(units).fill(0)) ?? [],
    );

  it.each([1, 2, 3])("computes random sets, seed %i", async (seed) => {
    const choose = randomChoice(seed);
    const expected = float64SparseRun(tensors, plain, ids, choose);
    const { logits, tally } = await run(told(choose), [6, 1, 1, 5]);
    expect(maxDifference(logits, expected.logits.flat())).toBeLessThan(2e-5);
    for (let layer = 0; layer < plain.num_hidden_layers; layer++) {
      const count = (unit: "heads" | "neurons") =>
        expected.chosen[unit][layer]!.reduce((sum, set) => sum + set.length, 0);
      expect(tally.total("heads", layer)).toBe(count("heads"));
      expect(tally.total("neurons", layer)).toBe(count("neurons"));
      const active = expected.chosen.neurons[layer]!.flatMap((set, t) =>
        set.filter((i) => expected.worth.neurons[layer]![t]![i]! > 0),
      );
      expect(tally.total("active", layer)).toBe(active.length);
    }
    expectSame((await run(told(choose), [13])).logits, logits);
  });

  it("keeps keys and values of skipped heads: what the last block skipped, later tokens do not miss", async () => {
    const last = plain.num_hidden_layers - 1;
    const dense = await run(denseSelector, [13]);
    const early = told((unit, layer, token, worth) =>
      layer === last && token < 12 ? (unit === "heads" ? [token % 3] : []) : [...worth.keys()],
    );
    const { logits } = await run(early, [7, 5, 1]);
    const tail = 12 * plain.vocab_size;
    expectSame(logits.subarray(tail), dense.logits.subarray(tail));
    expect(maxDifference(logits, dense.logits)).toBeGreaterThan(0.01);
  });

  it("shows selectors the sources as the projections read them", async () => {
    const { kernels, shape } = model;
    const kept = new Map<string, ReturnType<typeof kernels.allocate>>();
    const keep = (block: BlockView, when: string, source: Source) => {
      const copy = kernels.allocate("f32", [ids.length, shape.hiddenSize]);
      kernels.copyRows(copy, 0, block.source(source), 0, block.rows);
      kept.set(`${block.layer} ${when} ${source}`, copy);
    };
    const selector: Selector = {
      ...denseSelector,
      heads(block) {
        expect(() => block.source("mlp-input")).toThrow("mlp-input");
        if (block.layer === 0) expect(() => block.source("previous-block")).toThrow("block 0");
        else keep(block, "heads", "previous-block");
        keep(block, "heads", "attention-input");
        return null;
      },
      neurons(block) {
        if (block.layer > 0) keep(block, "neurons", "previous-block");
        keep(block, "neurons", "attention-input");
        keep(block, "neurons", "mlp-input");
        return null;
      },
    };
    await run(selector, [13]);
    const { inputs } = float64SparseRun(tensors, plain, ids, () => null);
    expect(kept.size).toBe(5 * shape.layers - 2);
    for (const [key, tensor] of kept) {
      const [layer, , source] = key.split(" ");
      const values = new Float32Array(ids.length * shape.hiddenSize);
      await kernels.read(tensor, values);
      const l = Number(layer);
      const expected =
        source === "mlp-input" ? inputs.mlp[l]! : inputs.attention[source === "previous-block" ? l - 1 : l]!;
      expect(maxDifference(values, expected.flat()), key).toBeLessThan(2e-5);
    }
  });
});

describe("the naive sparse forward", () => {
  it("is the naive dense one when everything is computed", () => {
    const { logits } = float64SparseRun(tensors, plain, ids, () => null);
    expect(maxDifference(logits.flat(), float64Logits(tensors, plain, ids).flat())).toBeLessThan(1e-9);
  });
});

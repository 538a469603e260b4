/** Forwards that repeat what the one before did give what asking the selector anew gives. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import type { Model, Outputs } from "../../src/models/model.ts";
import { createRng } from "../../src/sampling/rng.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { randomScorer } from "../../src/sparsity/fixed.ts";
import { oracleScorer } from "../../src/sparsity/oracle.ts";
import { type Predictor, predictedScorer } from "../../src/sparsity/predictor.ts";
import { ScoredSelector, type Selector } from "../../src/sparsity/selector.ts";
import { Tally } from "../../src/sparsity/tally.ts";
import { availableBackends } from "../helpers/backends.ts";
import { openModel } from "../helpers/open-model.ts";
import { plain, writeRandomCheckpoint } from "../helpers/random-checkpoint.ts";
import { expectSame } from "../helpers/same.ts";

const folder = mkdtempSync(join(tmpdir(), "dejavu-repeat-"));
beforeAll(async () => {
  await writeRandomCheckpoint(folder, plain, "f16", 3);
});
afterAll(() => rmSync(folder, { recursive: true }));

const { num_hidden_layers: layers, ffn_dim: neurons, num_attention_heads: heads, hidden_size: d } = plain;
const attention = { attention: "recover" } as const;

/** The same selector, but asked in every forward. */
const asked = (selector: Selector): Selector => ({
  kind: selector.kind,
  bytesPerToken: selector.bytesPerToken,
  attention: selector.attention,
  heads: (block) => selector.heads(block),
  neurons: (block) => selector.neurons(block),
  ...(selector.ahead && { ahead: (block, step) => selector.ahead!(block, step) }),
  dispose() {},
});

describe.each(availableBackends)("%s", (backend) => {
  let model: Model;
  beforeAll(async () => {
    model = await openModel(await openKernels({ backend }), folder);
  });
  afterAll(() => model.kernels.dispose());

  const policy = () => ({
    ...attention,
    heads: Array(layers).fill({ kind: "topK", k: heads - 1 }),
    neurons: Array(layers).fill({ kind: "topK", k: neurons >> 1 }),
  });
  function predicted(seed: number): Selector {
    const { kernels } = model;
    const rng = createRng(seed);
    const random = (...shape: number[]) => {
      const tensor = kernels.allocate("f32", shape);
      kernels.write(
        tensor,
        Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => rng.next() - 0.5),
      );
      return tensor;
    };
    const make = (units: number): Predictor[] =>
      Array.from({ length: layers }, () => ({
        source: "attention-input",
        down: random(4, d),
        up: random(4, units),
        bias: random(units),
      }));
    const predictors = { heads: make(heads), neurons: make(neurons) };
    return new ScoredSelector("predicted", kernels, predictedScorer(kernels, predictors, 8), policy());
  }

  /** Rows, selector, and what is wanted of each forward of one state. */
  type Step = readonly [number, Selector, Outputs, number];
  async function run(steps: readonly Step[]) {
    const { kernels, shape } = model;
    const total = steps.reduce((sum, [rows]) => sum + rows, 0);
    const state = model.createState({ capacity: total, maxRows: 8, attention });
    const tally = new Tally(state.sets);
    const told: number[] = [];
    const rng = createRng(5);
    for (const [rows, selector, outputs, needed] of steps) {
      state.neededLogits = needed;
      const ids = Int32Array.from({ length: rows }, () => rng.nextInt(shape.vocabSize));
      model.forward(state, ids, selector, outputs);
      await tally.add(kernels, rows);
      const logits = new Float32Array(
        shape.vocabSize * (outputs === "all" ? rows : outputs === "last" ? 1 : 0),
      );
      await kernels.read(state.logits, logits);
      told.push(...logits, tally.density("heads"), tally.density("neurons"), tally.density("recovered"));
    }
    state.dispose();
    return told;
  }

  it("repeats forwards that are alike, and no others", async () => {
    const [one, two] = [predicted(1), predicted(2)];
    const oracle = new ScoredSelector("oracle", model.kernels, oracleScorer, policy());
    const all = Number.POSITIVE_INFINITY;
    const steps: Step[] = [
      [5, denseSelector, "last", 1],
      ...Array<Step>(4).fill([1, one, "last", 1]),
      ...Array<Step>(3).fill([1, two, "last", 1]),
      [1, one, "last", 1],
      [1, one, "last", all],
      [1, one, "all", all],
      ...Array<Step>(3).fill([3, one, "all", all]),
      [3, one, "none", all],
      ...Array<Step>(3).fill([2, oracle, "last", 1]),
      ...Array<Step>(3).fill([1, denseSelector, "last", 1]),
      [1, one, "last", 1],
    ];
    const heads = vi.spyOn(one, "heads");
    const repeated = await run(steps);
    const calls = heads.mock.calls.length / layers;
    heads.mockRestore();
    const fresh = await run(steps.map(([rows, selector, ...rest]) => [rows, asked(selector), ...rest]));
    expectSame(Float32Array.from(repeated), Float32Array.from(fresh));
    expect(calls).toBe(backend === "native" ? 7 : 12);
  });

  it("asks selectors that say nothing of it, or make their choice on the host", async () => {
    const { kernels } = model;
    const rng = createRng(3);
    const scorer = randomScorer(kernels, { heads, neurons }, 8, () => rng.next());
    const random = new ScoredSelector("random", kernels, scorer, policy());
    const copy = { ...denseSelector, neurons: vi.fn(denseSelector.neurons) };
    const spy = vi.spyOn(random, "neurons");
    await run([...Array<Step>(3).fill([1, random, "last", 1]), ...Array<Step>(3).fill([1, copy, "last", 1])]);
    expect(spy).toHaveBeenCalledTimes(3 * layers);
    expect(copy.neurons).toHaveBeenCalledTimes(3 * layers);
    const one = predicted(1);
    expect([one.repeats, { ...one }.repeats]).toEqual([true, undefined]);
  });
});

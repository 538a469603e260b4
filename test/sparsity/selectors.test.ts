/** The selectors of the bundled model: they compute as much as was asked for, and what they say they do. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Engine, load, type SelectorOptions } from "../../src/load.ts";
import { predictorBytes } from "../../src/sparsity/predictor.ts";
import {
  type BlockView,
  type Selector,
  type SelectorKind,
  selectorKinds,
} from "../../src/sparsity/selector.ts";
import { Tally } from "../../src/sparsity/tally.ts";
import { byteLength } from "../../src/tensor/tensor.ts";
import { BundleError, UsageError } from "../../src/util/errors.ts";
import { golden, maxDifference } from "../helpers/golden.ts";
import { expectSame } from "../helpers/same.ts";
import { storiesBundle } from "../helpers/stories-bundle.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const ids = Int32Array.from([...golden.cases[1]!.ids, ...golden.cases[1]!.greedy64.slice(0, 10)]);
let engine: Engine;
beforeAll(async () => {
  engine = await load(undefined, { bundle: await storiesBundle(folder) });
}, 60_000);
afterAll(() => engine?.dispose());

interface Run {
  readonly logits: Float32Array;
  readonly tally: Tally;
  /** Of every layer and row, as text. */
  readonly headSets: string[][];
  /** Of every row of the last layer, whose neurons no later one overwrites. */
  readonly neuronSets: string[];
}

/** Runs all ids at once under a selector and reads what it chose. */
async function run(selector: Selector): Promise<Run> {
  const { model, kernels } = engine;
  const { layers, vocabSize } = model.shape;
  const state = model.createState({ capacity: ids.length, maxRows: 64 });
  const tally = new Tally(state.sets);
  model.forward(state, ids, selector, "all");
  const logits = new Float32Array(ids.length * vocabSize);
  await kernels.read(state.logits, logits);
  await tally.add(kernels, ids.length);
  const rowsOf = async (unit: "heads" | "neurons", layer: number) => {
    const set = state.sets.at(unit, layer);
    const counts = new Int32Array(ids.length);
    const indices = new Int32Array(ids.length * set.units);
    await kernels.read(set.counts, counts, set.slot * state.sets.maxRows);
    await kernels.read(set.indices, indices);
    return Array.from(counts, (count, r) => indices.slice(r * set.units, r * set.units + count).join());
  };
  const headSets = await Promise.all(Array.from({ length: layers }, (_, layer) => rowsOf("heads", layer)));
  const neuronSets = await rowsOf("neurons", layers - 1);
  state.dispose();
  return { logits, tally, headSets, neuronSets };
}

async function runKind(kind: SelectorKind, options?: SelectorOptions): Promise<Run> {
  const selector = await engine.selector(kind, options);
  expect(selector.kind).toBe(kind);
  return run(selector).finally(() => selector.dispose());
}

const scored = selectorKinds.filter((kind) => kind !== "dense");

describe.each(scored)("%s", (kind) => {
  it.each([
    [0.1, undefined],
    [undefined, 0.5],
    [0.37, 0.34],
    [0.0001, 0.0001],
    [1, 1],
  ])("computes the densities asked for: neurons %s, heads %s", async (mlpDensity, headDensity) => {
    const { layers, ffnDim, heads } = engine.model.shape;
    const { tally } = await runKind(kind, { mlpDensity, headDensity });
    const wanted = (density: number | undefined, units: number) =>
      density === undefined ? units : Math.max(1, Math.round(density * units));
    for (let layer = 0; layer < layers; layer++) {
      const trueSetOnly = kind === "oracle" && mlpDensity === undefined;
      if (!trueSetOnly) expect(tally.mean("neurons", layer)).toBe(wanted(mlpDensity, ffnDim));
      expect(tally.mean("heads", layer)).toBe(wanted(headDensity, heads));
      expect(tally.mean("active", layer)).toBeLessThanOrEqual(tally.mean("neurons", layer));
    }
  });

  it.each([0, 1.5, -0.1, Number.NaN, Number.POSITIVE_INFINITY])("refuses the density %s", async (value) => {
    for (const option of ["mlpDensity", "headDensity"]) {
      const failed = engine.selector(kind, { [option]: value });
      await expect(failed).rejects.toThrow(UsageError);
      await expect(failed).rejects.toThrow(String(value));
      await expect(failed).rejects.toThrow(option === "mlpDensity" ? "mlp density" : "head density");
    }
  });

  it("gives its memory back", async () => {
    await engine.selector(kind, { mlpDensity: 0.5 }).then((selector) => selector.dispose()); // loads the bundle
    const memory = watchMemory(engine.kernels);
    await runKind(kind, { mlpDensity: 0.5, headDensity: 0.5 });
    expect(memory.live.size).toBe(0);
    memory.end();
  });
});

describe("dense bits", () => {
  let dense: Run;
  beforeAll(async () => {
    dense = await runKind("dense");
  });

  it("come from the oracle's true sets, at a fraction of the neurons", async () => {
    const oracle = await runKind("oracle");
    expectSame(oracle.logits, dense.logits);
    expect(oracle.tally.density("neurons")).toBeLessThan(0.5);
    for (let layer = 0; layer < engine.model.shape.layers; layer++)
      expect(oracle.tally.total("active", layer)).toBe(oracle.tally.total("neurons", layer));
  });

  it.each(scored)("come from %s at densities 1", async (kind) => {
    const full = await runKind(kind, { mlpDensity: 1, headDensity: 1 });
    expectSame(full.logits, dense.logits);
  });

  it("do not come from fewer units", async () => {
    for (const kind of scored) {
      const { logits } = await runKind(kind, { mlpDensity: 0.02, headDensity: 0.2 });
      expect(maxDifference(logits, dense.logits)).toBeGreaterThan(0.01);
    }
  });
});

describe("the bundle's policy", () => {
  it("is what predicted runs", async () => {
    const { metadata } = await engine.bundle();
    const { tally } = await runKind("predicted");
    const { ffnDim, heads } = engine.model.shape;
    for (const [unit, units] of [
      ["neurons", ffnDim],
      ["heads", heads],
    ] as const)
      for (const [layer, policy] of metadata.policy[unit].entries()) {
        const mean = tally.mean(unit, layer);
        if (policy.kind === "topK") expect(mean).toBe(policy.k);
        else if (policy.kind === "dense") expect(mean).toBe(units);
        else expect(mean).toBeLessThan(units);
      }
  });

  it("gives static and random sets of the same mean size", async () => {
    const { policy, calibration } = (await engine.bundle()).metadata;
    const { ffnDim } = engine.model.shape;
    for (const kind of ["static", "random"] as const) {
      const { tally } = await runKind(kind);
      for (const [layer, { density }] of calibration.neurons.entries())
        if (policy.neurons[layer]!.kind !== "dense")
          expect(tally.mean("neurons", layer)).toBe(Math.max(1, Math.round(density * ffnDim)));
    }
  });
});

describe("predicted", () => {
  it("is refused when the bundle was trained on another source than the one asked for", async () => {
    const { file, metadata } = await engine.bundle();
    expect(metadata.sources.neurons).toBe("mlp-input");
    const made = await engine.selector("predicted", { source: "mlp-input" });
    made.dispose();
    const refused = engine.selector("predicted", { source: "previous-block" });
    await expect(refused).rejects.toThrow(BundleError);
    await expect(refused).rejects.toThrow(`${file}: its predictors read mlp-input, not previous-block`);
  });

  it("counts the bytes of the predictors that its policy uses", async () => {
    const { predictors } = await engine.bundle();
    const bytes = (unit: "heads" | "neurons") => predictorBytes(predictors[unit]);
    const one = predictors.neurons.find((predictor) => predictor !== null)!;
    const parts = [one.down, one.up, one.bias].map((tensor) => (tensor ? byteLength(tensor) : 0));
    expect(predictorBytes([one])).toBe(parts[0]! + parts[1]! + parts[2]!);
    const selector = await engine.selector("predicted", { mlpDensity: 0.5 });
    expect(selector.bytesPerToken).toEqual({ heads: 0, neurons: bytes("neurons") });
    const both = await engine.selector("predicted", { mlpDensity: 0.5, headDensity: 0.5 });
    expect(both.bytesPerToken).toEqual({ heads: bytes("heads"), neurons: bytes("neurons") });
    selector.dispose();
    both.dispose();
  });

  it("chooses the units with the largest logits", async () => {
    const { predictors } = await engine.bundle();
    const { kernels, model } = engine;
    const { layers, hiddenSize } = model.shape;
    const layer = layers - 1;
    const predictor = predictors.neurons[layer]!;
    expect(predictor.source).toBe("mlp-input");
    const inner = await engine.selector("predicted", { mlpDensity: 0.1 });
    const input = kernels.allocate("f32", [ids.length, hiddenSize]);
    const watching: Selector = {
      ...inner,
      kind: "predicted",
      heads: (block) => inner.heads(block),
      neurons(block: BlockView) {
        if (block.layer === layer) kernels.copyRows(input, 0, block.source("mlp-input"), 0, block.rows);
        return inner.neurons(block);
      },
    };
    const { neuronSets } = await run(watching);
    const widen = async (tensor: typeof input) => {
      const [n, d] = tensor.shape as [number, number];
      const rows = kernels.allocate("f32", [n, d]);
      const numbers = kernels.allocate("i32", [n]);
      kernels.write(
        numbers,
        Int32Array.from({ length: n }, (_, i) => i),
      );
      kernels.embedding(rows, tensor, numbers, n);
      const values = new Float32Array(n * d);
      await kernels.read(rows, values);
      kernels.free(rows);
      kernels.free(numbers);
      return Array.from({ length: n }, (_, i) => values.subarray(i * d, (i + 1) * d));
    };
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
      Array.from(a).reduce((sum, value, i) => sum + value * b[i]!, 0);
    const xs = await widen(input);
    const down = predictor.down && (await widen(predictor.down));
    const bias = new Float32Array(predictor.bias.shape[0]!);
    const rows = await widen(predictor.up);
    const up = down ? Array.from(bias, (_, unit) => rows.map((row) => row[unit]!)) : rows;
    await kernels.read(predictor.bias, bias);
    for (const [row, x] of xs.entries()) {
      const hidden = down ? down.map((d) => dot(d, x)) : x;
      const logits = up.map((u, i) => dot(u, hidden) + bias[i]!);
      const chosen = new Set(neuronSets[row]!.split(",").map(Number));
      const lowest = Math.min(...[...chosen].map((i) => logits[i]!));
      const highest = Math.max(...logits.filter((_, i) => !chosen.has(i)));
      expect(lowest).toBeGreaterThan(highest - 1e-3);
    }
    kernels.free(input);
    inner.dispose();
  });
});

describe("static", () => {
  it("chooses the same units for all tokens: those with the best statistics", async () => {
    const { headSets, neuronSets } = await runKind("static", { mlpDensity: 0.2, headDensity: 0.5 });
    const { statistics } = await engine.bundle();
    const best = (scores: Float32Array, k: number) =>
      Array.from(scores.keys())
        .sort((a, b) => scores[b]! - scores[a]! || a - b)
        .slice(0, k)
        .sort((a, b) => a - b)
        .join();
    for (const [layer, rows] of headSets.entries())
      expect(new Set(rows)).toEqual(new Set([best(statistics.heads[layer]!, 3)]));
    expect(new Set(neuronSets)).toEqual(new Set([best(statistics.neurons.at(-1)!, 154)]));
  });
});

describe("random", () => {
  const options = { mlpDensity: 0.2, headDensity: 0.5 };

  it("repeats with its seed, and differs with another", async () => {
    const first = await runKind("random", { ...options, seed: 3 });
    expectSame((await runKind("random", { ...options, seed: 3 })).logits, first.logits);
    const other = await runKind("random", { ...options, seed: 4 });
    expect(other.neuronSets).not.toEqual(first.neuronSets);
  });

  it("chooses anew for every token", async () => {
    const { neuronSets, headSets } = await runKind("random", options);
    expect(new Set(neuronSets).size).toBe(ids.length);
    expect(new Set(headSets.flat()).size).toBeGreaterThan(10);
  });

  it("refuses a seed that is none", async () => {
    await expect(engine.selector("random", { ...options, seed: -1 })).rejects.toThrow(UsageError);
  });
});

describe("without a bundle", () => {
  it("selectors that need one say so, the others work", async () => {
    const bundle = join(folder, "absent.safetensors");
    using bare = await load(undefined, { bundle });
    for (const kind of ["predicted", "static"] as const) {
      await expect(bare.selector(kind)).rejects.toThrow(BundleError);
      await expect(bare.selector(kind)).rejects.toThrow(bundle);
    }
    for (const kind of ["dense", "oracle"] as const) expect((await bare.selector(kind)).kind).toBe(kind);
    expect((await bare.selector("random", { mlpDensity: 0.5 })).kind).toBe("random");
  });
});

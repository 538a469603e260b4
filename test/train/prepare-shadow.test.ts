/** One predictor for all blocks, from text to a bundle that runs, on a model of a few kilobytes. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generateText } from "../../src/generate.ts";
import { type Engine, load, type SelectorOptions } from "../../src/load.ts";
import type { BundleMetadata } from "../../src/sparsity/bundle.ts";
import type { Selector } from "../../src/sparsity/selector.ts";
import { Tally } from "../../src/sparsity/tally.ts";
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import { byteLength, type Tensor } from "../../src/tensor/tensor.ts";
import { prepare } from "../../src/train/prepare.ts";
import type { PrepareOptions } from "../../src/train/prepare-options.ts";
import { UsageError } from "../../src/util/errors.ts";
import { multiply, toMatrix, transpose } from "../helpers/algebra.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { variants } from "../helpers/random-checkpoint.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { randomText, tinyVariant, writeTinyModel } from "../helpers/tiny-model.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const text = join(folder, "text.txt");
const out = join(folder, "bundle");
const { num_hidden_layers: layers, num_attention_heads: heads, ffn_dim: ffnDim } = tinyVariant;
let engine: Engine;
let made: BundleMetadata;

const options = { texts: [text], predictor: "shadow", hidden: 8, epochs: 2, batchSize: 64 } as const;
const run = (file: string, changed: Partial<PrepareOptions> = {}, on: Engine = engine) =>
  prepare(on, { ...options, out: file, ...changed } as PrepareOptions);

beforeAll(async () => {
  await writeTinyModel(folder);
  writeFileSync(text, randomText(45, 24));
  engine = await load(folder, { backend: fastestBackend, bundle: out });
  const memory = watchMemory(engine.kernels);
  made = await run(out, { headTolerance: 0.01 });
  expect(memory.live.size, "tensors left behind").toBe(0);
  memory.end();
}, 60_000);
afterAll(() => engine?.dispose());

describe("a bundle with one predictor for all blocks", () => {
  it("is the same, bit for bit, when made again, with another number of threads", async () => {
    const again = join(folder, "again");
    using single = await load(folder, { backend: fastestBackend, threads: 1 });
    await run(again, { headTolerance: 0.01 }, single);
    expect(readFileSync(again).equals(readFileSync(out))).toBe(true);
  });

  it("states its kind, and holds one hidden layer for each kind of unit", async () => {
    const { metadata, predictors } = await engine.bundle();
    expect(metadata).toEqual(made);
    expect(metadata.predictor).toBe("shadow");
    expect(metadata.sources).toEqual({ heads: "first-block", neurons: "first-block" });
    expect(metadata.targets).toEqual({ heads: "importance", neurons: "active" });
    expect(metadata.provenance.options).toMatchObject({ hidden: 8, epochs: 2 });
    expect(Object.keys(metadata.provenance.options)).not.toContain("rank");
    expect(predictors.heads.map((one) => one !== null)).toEqual([false, true, true]);
    expect(predictors.neurons.map((one) => one !== null)).toEqual([true, true, true]);
    expect(new Set(predictors.neurons.map((one) => one!.down)).size).toBe(1);
    expect(predictors.heads[1]!.down).toBe(predictors.heads[2]!.down);
    expect(predictors.heads[1]!.down).not.toBe(predictors.neurons[1]!.down);
    for (const { rank, recall, density } of metadata.calibration.neurons) {
      expect(rank).toBe(8);
      expect(recall).toBeGreaterThanOrEqual(0.94);
      expect(density).toBeLessThanOrEqual(1);
    }
  });

  it("counts its hidden layers once", async () => {
    const { predictors } = await engine.bundle();
    const selector = await engine.selector("predicted", { mlpDensity: 0.5, headDensity: 0.4 });
    const of = (...tensors: (Tensor | null)[]) =>
      tensors.reduce((sum, tensor) => sum + byteLength(tensor!), 0);
    const [, h1, h2] = predictors.heads.map((one) => one!);
    const [n0, n1, n2] = predictors.neurons.map((one) => one!);
    expect(selector.bytesPerToken).toEqual({
      heads: of(h1!.down, h1!.up, h1!.bias, h2!.up, h2!.bias),
      neurons: of(n0!.down, n0!.up, n0!.bias, n1!.up, n1!.bias, n2!.up, n2!.bias),
    });
    selector.dispose();
    const none = await engine.selector("predicted", { headDensity: 0.4 });
    expect(none.bytesPerToken.neurons).toBe(0);
    none.dispose();
  });

  it("gives its memory back, and generates", async () => {
    await engine.bundle();
    const memory = watchMemory(engine.kernels);
    for (const changed of [
      {},
      { mlpDensity: 0.3 },
      { headDensity: 0.4 },
      { mlpDensity: 0.3, headDensity: 0.4 },
    ]) {
      const selector = await engine.selector("predicted", changed);
      const { ids } = await generateText(engine, {
        prompt: "ab aba",
        selector,
        maxTokens: 8,
        ignoreEos: true,
      });
      expect(ids).toHaveLength(8);
      selector.dispose();
    }
    expect(memory.live.size).toBe(0);
    memory.end();
  });
});

describe("its selector", () => {
  /** What a forward chose in the last layer, and block 0's mlp-input. */
  async function forward(inner: Selector, ids: readonly number[]) {
    const { model, kernels } = engine;
    const state = model.createState({ capacity: ids.length, maxRows: ids.length });
    const seen = kernels.allocate("f32", [ids.length, model.shape.hiddenSize]);
    const watching: Selector = {
      kind: inner.kind,
      bytesPerToken: inner.bytesPerToken,
      attention: inner.attention,
      heads: (block) => inner.heads(block),
      neurons(block) {
        if (block.layer === 0) kernels.copyRows(seen, 0, block.source("mlp-input"), 0, block.rows);
        return inner.neurons(block);
      },
      ahead: (block, step) => inner.ahead?.(block, step),
      dispose() {},
    };
    const tally = new Tally(state.sets);
    model.forward(state, Int32Array.from(ids), watching, "all");
    await tally.add(kernels, ids.length);
    const input = new Float32Array(ids.length * model.shape.hiddenSize);
    await kernels.read(seen, input);
    const chosen = async (unit: "heads" | "neurons") => {
      const set = state.sets.at(unit, layers - 1);
      const counts = new Int32Array(ids.length);
      const indices = new Int32Array(ids.length * set.units);
      await kernels.read(set.counts, counts, set.slot * ids.length);
      await kernels.read(set.indices, indices);
      return Array.from(counts, (count, r) => [...indices.slice(r * set.units, r * set.units + count)]);
    };
    const sets = { heads: await chosen("heads"), neurons: await chosen("neurons") };
    kernels.free(seen);
    state.dispose();
    return { input: toMatrix(input, model.shape.hiddenSize), sets, tally };
  }

  const halves = async (tensor: Tensor) => {
    const bits = new Uint16Array(tensor.shape[0]! * tensor.shape[1]!);
    await engine.kernels.read(tensor, bits);
    return toMatrix(Array.from(bits, f16ToNumber), tensor.shape[1]!);
  };

  it.each(["both", "heads"] as const)("scores %s by the first block of the same forward", async (which) => {
    const { predictors } = await engine.bundle();
    const wanted = { heads: 1, neurons: 9 };
    const densities = { headDensity: 1 / heads, mlpDensity: which === "both" ? 9 / ffnDim : undefined };
    const inner = await engine.selector("predicted", densities);
    // Twice, with other rows: what the first forward left must not serve the second.
    for (const ids of [
      [2, 60, 61, 70, 80, 90, 65],
      [2, 99, 40, 41],
    ]) {
      const { input, sets, tally } = await forward(inner, ids);
      for (const unit of which === "both" ? (["heads", "neurons"] as const) : (["heads"] as const)) {
        const { down, up, bias } = predictors[unit][layers - 1]!;
        const hidden = multiply(input, transpose(await halves(down!))).map((row) =>
          row.map((x) => Math.max(0, x)),
        );
        const biases = new Float32Array(up.shape[1]!);
        await engine.kernels.read(bias, biases);
        const scores = multiply(hidden, await halves(up)).map((row) => row.map((x, u) => x + biases[u]!));
        const best = scores.map((row) =>
          [...row.keys()]
            .sort((a, b) => row[b]! - row[a]!)
            .slice(0, wanted[unit])
            .sort((a, b) => a - b),
        );
        expect(sets[unit]).toEqual(best);
        expect(new Set(best.map(String)).size, "the same for all rows says little").toBeGreaterThan(
          unit === "heads" ? 0 : 1,
        );
      }
      // Block 0's heads run before there is anything to predict them from.
      expect(tally.mean("heads", 0)).toBe(heads);
      expect(tally.mean("heads", 1)).toBe(1);
      expect(tally.mean("neurons", 0)).toBe(which === "both" ? 9 : ffnDim);
    }
    inner.dispose();
  });
});

it("computes each hidden layer once in a forward, and none that its policy has no use for", async () => {
  const { kernels, model } = engine;
  const { predictors } = await engine.bundle();
  const downs = [predictors.heads[1]!.down!, predictors.neurons[1]!.down!];
  const { product } = kernels;
  const count = async (options: SelectorOptions): Promise<number[]> => {
    const selector = await engine.selector("predicted", options);
    const state = model.createState({ capacity: 8, maxRows: 8 });
    const used: Tensor[] = [];
    kernels.product = (...given) => {
      used.push(given[3]);
      product.apply(kernels, given);
    };
    model.forward(state, Int32Array.of(2, 60, 61), selector, "last");
    kernels.product = product;
    state.dispose();
    selector.dispose();
    return downs.map((down) => used.filter((weight) => weight === down).length);
  };
  expect(await count({ headDensity: 0.4, mlpDensity: 0.5 })).toEqual([1, 1]);
  expect(await count({ headDensity: 0.4 })).toEqual([1, 0]);
  expect(await count({ mlpDensity: 0.5 })).toEqual([0, 1]);
});

describe("preparing one predictor for all blocks", () => {
  it("can be calibrated to a budget", async () => {
    const budgeted = join(folder, "budget");
    writeFileSync(join(folder, "long.txt"), randomText(120, 24));
    const metadata = await run(budgeted, {
      texts: [join(folder, "long.txt")],
      rows: 2000,
      curveRows: 1000,
      maxPerplexityIncrease: 0.05,
    });
    expect(metadata.curve.length).toBeGreaterThan(0);
    expect(metadata.policy.heads[0]).toEqual({ kind: "dense" });
    using fresh = await load(folder, { backend: fastestBackend, bundle: budgeted });
    expect((await fresh.selector("predicted")).kind).toBe("predicted");
  });

  it.each([
    ["importance", (done: number) => done > 0],
    ["train", (done: number) => done > 0.1],
    ["train", (done: number) => done > 0.6],
  ] as const)("aborted in %s leaves nothing behind", async (at, when) => {
    const reason = new Error("enough");
    const controller = new AbortController();
    const memory = watchMemory(engine.kernels);
    const file = join(folder, "never");
    const failed = run(file, {
      signal: controller.signal,
      onProgress: (stage, done) => {
        if (stage === at && when(done)) controller.abort(reason);
      },
    });
    await expect(failed).rejects.toBe(reason);
    expect(existsSync(file)).toBe(false);
    expect(memory.live.size).toBe(0);
    memory.end();
  });

  it.each([
    [{ source: "mlp-input" }, 'source is "mlp-input"'],
    [{ rank: 8 }, "rank is 8"],
    [{ headTarget: "norm" }, 'headTarget is "norm"'],
    [{ hidden: 0 }, "hidden is 0"],
    [{ predictor: "per-layer" }, "hidden is 8"],
    [{ predictor: "one" }, 'predictor is "one"'],
  ])("refuses %j", async (changed, message) => {
    const failed = run(join(folder, "never"), changed as Partial<PrepareOptions>);
    await expect(failed).rejects.toThrow(UsageError);
    await expect(failed).rejects.toThrow(message);
  });
});

describe("a model without a backward pass", () => {
  const other = join(folder, "post-norm");
  beforeAll(async () => {
    await writeTinyModel(other, { ...variants["post-norm with projections (350m)"]!, vocab_size: 263 });
  });

  it("has its heads predicted by norms, and says so", async () => {
    using postNorm = await load(other, { backend: fastestBackend });
    const stages = new Set<string>();
    const metadata = await prepare(postNorm, {
      ...{ texts: [text], out: join(other, "bundle"), rank: 4, epochs: 1, batchSize: 64 },
      onProgress: (stage) => stages.add(stage),
    });
    expect(metadata.targets.heads).toBe("norm");
    expect([...stages]).toEqual(["capture", "train", "heads", "check"]);
  });

  it.each([{ predictor: "shadow" }, { headTarget: "importance" }] as const)("refuses %j", async (asked) => {
    using postNorm = await load(other, { backend: fastestBackend });
    const failed = prepare(postNorm, { texts: [text], out: join(other, "never"), ...asked });
    await expect(failed).rejects.toThrow(UsageError);
    await expect(failed).rejects.toThrow(/gradients exist for pre-norm OPT models/);
    expect(readdirSync(other)).not.toContain("never");
  });
});

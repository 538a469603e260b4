/** Scores against a naive float64 forward: every figure counted once more, by hand. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DenseModel } from "../../src/eval/dense-model.ts";
import { score } from "../../src/eval/score.ts";
import { type Engine, load } from "../../src/load.ts";
import { createRng } from "../../src/sampling/rng.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import type { UnitKind } from "../../src/sparsity/selector.ts";
import { availableBackends } from "../helpers/backends.ts";
import { type Choose, float64SparseRun, largest, type SparseRun } from "../helpers/float64-sparse-opt.ts";
import type { Tensors } from "../helpers/random-checkpoint.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { tinyVariant, writeTinyModel } from "../helpers/tiny-model.ts";
import { toldSelector } from "../helpers/told-selector.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const {
  num_hidden_layers: layers,
  num_attention_heads: heads,
  ffn_dim: ffn,
  vocab_size: vocab,
} = tinyVariant;
let tensors: Tensors;
beforeAll(async () => {
  tensors = await writeTinyModel(folder);
});

/** Three documents, one of them longer than the 64 rows of a block, one of a single scored id. */
const rng = createRng(3);
const documents = [20, 70, 2].map((length) =>
  Array.from({ length }, (_, i) => (i === 0 ? 1 : rng.nextInt(vocab))),
);

const logSoftmax = (logits: number[]): number[] => {
  const max = Math.max(...logits);
  const sum = logits.reduce((total, x) => total + Math.exp(x - max), 0);
  return logits.map((x) => x - max - Math.log(sum));
};
const argmax = (values: number[]) => values.indexOf(Math.max(...values));
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

interface Naive {
  runs: SparseRun[];
  nllPerDocument: number[];
  denseNll: number[];
  kl: number[];
  agrees: number[];
}

/** Everything that is summed over scored positions. `choose` is told the document's number besides. */
function naiveScore(choose: (document: number) => Choose): Naive {
  const naive: Naive = { runs: [], nllPerDocument: [], denseNll: [], kl: [], agrees: [] };
  for (const [number, ids] of documents.entries()) {
    const run = float64SparseRun(tensors, tinyVariant, ids, choose(number));
    const dense = float64SparseRun(tensors, tinyVariant, ids, () => null);
    let nll = 0;
    for (const [t, target] of ids.slice(1).entries()) {
      const [p, q] = [logSoftmax(run.logits[t]!), logSoftmax(dense.logits[t]!)];
      nll -= p[target]!;
      naive.denseNll.push(-q[target]!);
      naive.kl.push(q.reduce((sum, log, i) => sum + Math.exp(log) * (log - p[i]!), 0));
      naive.agrees.push(argmax(p) === argmax(q) ? 1 : 0);
    }
    naive.runs.push(run);
    naive.nllPerDocument.push(nll);
  }
  return naive;
}

/** Density, recall and precision, over all tokens, documents and layers; `truth` gives the true set. */
function naiveFidelity(
  runs: SparseRun[],
  unit: UnitKind,
  units: number,
  truth: (worth: number[], chosen: readonly number[]) => number[],
) {
  const sums = { chosen: 0, true: 0, hits: 0, all: 0 };
  for (const run of runs)
    for (const [layer, sets] of run.chosen[unit].entries())
      for (const [t, chosen] of sets.entries()) {
        const right = new Set(truth(run.worth[unit][layer]![t]!, chosen));
        sums.chosen += chosen.length;
        sums.true += right.size;
        sums.hits += chosen.filter((i) => right.has(i)).length;
        sums.all += units;
      }
  return {
    density: sums.chosen / sums.all,
    recall: sums.hits / sums.true,
    precision: sums.hits / sums.chosen,
  };
}
const aboveZero = (worth: number[]) => [...worth.keys()].filter((i) => worth[i]! > 0);
const asManyLargest = (worth: number[], chosen: readonly number[]) => largest(worth, chosen.length);

/** Bytes by hand: 24 wide, 3 heads of 8, 52 neurons, 3 layers, 263 ids; everything in 4 bytes. */
const row = 24 * 4;
const [perHead, perNeuron] = [8 * row * 2, row];
const vectors = 4 * (4 * 24 + 4 * 24 + 52 + 24); // biases of q, k, v, o; two norms; biases of fc1, fc2
const always = layers * (2 * 24 * row + vectors) + 4 * 2 * 24 + 263 * row + 2 * row;
const mlpDense = layers * ffn * 2 * row;
const denseBytes = always + mlpDense + layers * heads * perHead;

describe.each(availableBackends)("%s", (backend) => {
  let engine: Engine;
  beforeAll(async () => {
    // In float32, so that the cache is too: the naive forward rounds nothing.
    engine = await load(folder, { backend, dtype: "f32" });
  });
  afterAll(() => engine.dispose());

  const asIds = () => documents.map((ids) => Int32Array.from(ids));

  function expectScore(result: Awaited<ReturnType<typeof score>>, naive: Naive): void {
    const scored = naive.kl.length;
    expect(result.documents).toBe(3);
    expect(result.scoredIds).toBe(scored);
    expect(scored).toBe(19 + 69 + 1);
    for (const [i, nll] of naive.nllPerDocument.entries())
      expect(result.nllPerDocument[i]).toBeCloseTo(nll, 3);
    const total = naive.nllPerDocument.reduce((a, b) => a + b, 0);
    expect(result.perplexity / Math.exp(total / scored)).toBeCloseTo(1, 5);
    expect(result.densePerplexity / Math.exp(mean(naive.denseNll))).toBeCloseTo(1, 5);
    expect(result.kl).toBeCloseTo(mean(naive.kl), 5);
    expect(result.top1Agreement).toBeCloseTo(mean(naive.agrees), 12);
    for (let layer = 0; layer < layers; layer++) {
      const worths = naive.runs.flatMap((run) => run.worth.neurons[layer]!);
      const share = mean(worths.map((worth) => aboveZero(worth).length / ffn));
      expect(result.activeNeuronShare[layer]).toBeCloseTo(share, 12);
    }
  }

  it("scores the dense model", async () => {
    const result = await score(engine, asIds(), denseSelector);
    const naive = naiveScore(() => () => null);
    expectScore(result, naive);
    expect(result.selector).toBe("dense");
    expect(result.perplexity).toBe(result.densePerplexity);
    expect(result.kl).toBe(0);
    expect(result.top1Agreement).toBe(1);
    const mlp = naiveFidelity(naive.runs, "neurons", ffn, aboveZero);
    expect(result.mlp.density).toBe(1);
    expect(result.mlp.recall).toBe(1);
    expect(result.mlp.precision).toBeCloseTo(mlp.precision, 12);
    expect(result.heads).toEqual({ density: 1, recall: 1, precision: 1 });
    expect(result.bytesPerToken).toEqual({
      dense: denseBytes,
      touched: denseBytes,
      predictor: 0,
      mlp: { dense: mlpDense, touched: mlpDense },
    });
  });

  it("scores an oracle of the single best head and neuron", async () => {
    const selector = await engine.selector("oracle", { mlpDensity: 1e-9, headDensity: 1e-9 });
    const result = await score(engine, asIds(), selector);
    selector.dispose();
    const naive = naiveScore(() => (_unit, _layer, _token, worth) => largest(worth, 1));
    expectScore(result, naive);
    expect(result.kl).toBeGreaterThan(0.001);
    expect(result.top1Agreement).toBeLessThan(1);
    expect(result.heads).toEqual({ density: 1 / 3, recall: 1, precision: 1 });
    const mlp = naiveFidelity(naive.runs, "neurons", ffn, aboveZero);
    expect(result.mlp.density).toBeCloseTo(1 / ffn, 12);
    expect(result.mlp.recall).toBeCloseTo(mlp.recall, 12);
    expect(result.mlp.precision).toBeCloseTo(mlp.precision, 12);
    const mlpTouched = layers * (perNeuron + perNeuron); // every token has a neuron above zero
    expect(mlp.precision).toBe(1);
    expect(result.bytesPerToken.mlp).toEqual({ dense: mlpDense, touched: mlpTouched });
    expect(result.bytesPerToken.touched).toBeCloseTo(always + mlpTouched + layers * perHead, 6);
  });

  it("counts what arbitrary sets catch", async () => {
    /** Sets by document, layer and token; a fifth of the layers' heads and neurons at least. */
    const sets = (document: number, unit: UnitKind, layer: number, token: number, units: number) => {
      const draw = createRng(document * 10_000 + layer * 1000 + token * 10 + (unit === "heads" ? 1 : 2));
      const chosen = Array.from({ length: units }, (_, i) => i).filter(() => draw.next() < 0.6);
      return chosen.length > 0 ? chosen : [token % units];
    };
    // A new document starts where the position is 0 and the first layer asks for heads.
    let document = -1;
    const selector = toldSelector(engine.kernels, (unit, layer, token, units) => {
      if (unit === "heads" && layer === 0 && token === 0) document += 1;
      return sets(document, unit, layer, token, units);
    });
    const result = await score(engine, asIds(), selector);
    const naive = naiveScore(
      (number) => (unit, layer, token, worth) => sets(number, unit, layer, token, worth.length),
    );
    expectScore(result, naive);
    const mlp = naiveFidelity(naive.runs, "neurons", ffn, aboveZero);
    const ofHeads = naiveFidelity(naive.runs, "heads", heads, asManyLargest);
    for (const key of ["density", "recall", "precision"] as const) {
      expect(result.mlp[key], key).toBeCloseTo(mlp[key], 12);
      expect(result.heads[key], key).toBeCloseTo(ofHeads[key], 12);
      expect(result.heads[key]).toBeLessThan(0.95);
    }
    const touched =
      layers * ffn * perNeuron * (mlp.density + mlp.density * mlp.precision) +
      layers * heads * perHead * ofHeads.density;
    expect(result.bytesPerToken.touched).toBeCloseTo(always + touched, 6);
  });

  it.each([
    ["all", 1e6, 92],
    ["some", 4 * 263 * 21, 92 + 72], // the document of 20 ids fits, that of 70 does not, that of 2 no more
    ["none", 0, 92 + 92],
  ])("runs the dense model again for what it has not kept: %s kept", async (_, room, tokens) => {
    const selector = await engine.selector("oracle", { mlpDensity: 0.2 });
    const alone = await score(engine, asIds(), selector);
    const dense = new DenseModel(engine, 80, room);
    const same = asIds();
    for (let time = 0; time < 2; time++)
      expect(await score(engine, same, selector, { dense })).toEqual(alone);
    expect(dense.tokens).toBe(tokens);
    dense.dispose();
    selector.dispose();
  });

  it("does not take what a stopped run left for whole", async () => {
    const dense = new DenseModel(engine, 80, 1e6);
    const same = asIds();
    const controller = new AbortController();
    const onProgress = (ids: number) => ids === 84 && controller.abort(new Error("enough"));
    const stopped = score(engine, same, denseSelector, { dense, onProgress, signal: controller.signal });
    await expect(stopped).rejects.toThrow("enough");
    const selector = await engine.selector("oracle", { mlpDensity: 0.2 });
    const alone = await score(engine, asIds(), selector);
    expect(await score(engine, same, selector, { dense })).toEqual(alone);
    dense.dispose();
    selector.dispose();
  });

  it("reports progress, can be stopped, and gives its memory back", async () => {
    const memory = watchMemory(engine.kernels);
    const seen: [number, number][] = [];
    await score(engine, asIds(), denseSelector, { onProgress: (...step) => seen.push(step) });
    expect(seen).toEqual([
      [20, 92],
      [84, 92],
      [90, 92],
      [92, 92],
    ]);
    const controller = new AbortController();
    const reason = new Error("enough");
    const onProgress = () => controller.abort(reason);
    const failed = score(engine, asIds(), denseSelector, { onProgress, signal: controller.signal });
    await expect(failed).rejects.toBe(reason);
    expect(memory.live.size).toBe(0);
    memory.end();
  });
});

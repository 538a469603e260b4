/** Every OPT variant, on every backend, against an independent float64 forward; and what must hold bit for bit. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Kernels } from "../../src/kernels/contract.ts";
import { nativeInstructionSets, openNative } from "../../src/kernels/native/native.ts";
import { openReference } from "../../src/kernels/reference/reference.ts";
import type { Model } from "../../src/models/model.ts";
import { parseOptConfig } from "../../src/models/opt-config.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { oracleScorer } from "../../src/sparsity/oracle.ts";
import { uniformPolicy } from "../../src/sparsity/policy.ts";
import { ScoredSelector, type Selector } from "../../src/sparsity/selector.ts";
import { float64Logits } from "../helpers/float64-opt.ts";
import { maxDifference } from "../helpers/golden.ts";
import { openModel } from "../helpers/open-model.ts";
import { plain, variants, writeRandomCheckpoint } from "../helpers/random-checkpoint.ts";
import { expectSame } from "../helpers/same.ts";

const temporary = mkdtempSync(join(tmpdir(), "dejavu-variants-"));
afterAll(() => rmSync(temporary, { recursive: true }));

const backends: [string, () => Kernels][] = [
  ["reference", openReference],
  ...nativeInstructionSets().map((instructionSet): [string, () => Kernels] => [
    `native ${instructionSet}`,
    () => openNative({ instructionSet, threads: 2 }),
  ]),
];
const ids = Int32Array.from([2, 5, 36, 0, 17, 17, 4, 9, 30, 1, 12, 8, 3]);

/** Logits of all ids, fed in blocks of the sizes given. */
async function run(
  kernels: Kernels,
  model: Model,
  selector: Selector,
  blocks: number[],
): Promise<Float32Array> {
  const { vocabSize } = model.shape;
  const logits = new Float32Array(ids.length * vocabSize);
  const { attention } = selector;
  const state = model.createState({ capacity: ids.length, maxRows: 64, attention, cacheDtype: "f32" });
  let at = 0;
  for (const rows of blocks) {
    model.forward(state, ids.subarray(at, at + rows), selector, "all");
    await kernels.read(state.logits, logits.subarray(at * vocabSize, (at + rows) * vocabSize));
    at += rows;
  }
  state.dispose();
  return logits;
}

describe.each(backends)("%s", (name, open) => {
  it.each(Object.keys(variants))("%s", async (title) => {
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      const folder = join(temporary, `${name} ${title} ${dtype}`);
      const tensors = await writeRandomCheckpoint(folder, variants[title]!, dtype);
      const kernels = open();
      const model = await openModel(kernels, folder);
      const expected = float64Logits(tensors, variants[title]!, [...ids]).flat();
      const logits = await run(kernels, model, denseSelector, [ids.length]);
      expect(maxDifference(logits, expected)).toBeLessThan(2e-5);
      // Prompt in blocks, tokens one by one, or all at once: the same bits.
      expectSame(await run(kernels, model, denseSelector, [4, 1, 1, 7]), logits);
      kernels.dispose();
    }
  });

  it("gives the dense bits when every unit is selected, and the true set loses nothing", async () => {
    const folder = join(temporary, `${name} full`);
    await writeRandomCheckpoint(folder, plain, "f16");
    const kernels = open();
    const model = await openModel(kernels, folder);
    const { layers, heads, ffnDim } = model.shape;
    const dense = await run(kernels, model, denseSelector, [ids.length]);
    const all = uniformPolicy(layers, { kind: "topK", k: heads }, { kind: "topK", k: ffnDim });
    const trueSet = uniformPolicy(layers, { kind: "topK", k: heads }, { kind: "threshold", threshold: 0 });
    for (const policy of [all, trueSet])
      for (const mode of [{}, { attention: "recover" }, { attention: "recover", refresh: 4 }] as const) {
        const selector = new ScoredSelector("oracle", kernels, oracleScorer, { ...policy, ...mode });
        expectSame(await run(kernels, model, selector, [5, 1, 7]), dense);
      }
    const one = uniformPolicy(layers, { kind: "topK", k: 1 }, { kind: "topK", k: 1 });
    const sparse = await run(kernels, model, new ScoredSelector("oracle", kernels, oracleScorer, one), [
      ids.length,
    ]);
    expect(maxDifference(sparse, dense)).toBeGreaterThan(0.01);
    kernels.dispose();
  });
});

describe("config.json", () => {
  /** Published sizes: hidden_size, layers, heads, word_embed_proj_dim (Zhang et al. 2022, table 1; 350m: its config). */
  const published: [string, number, number, number, number][] = [
    ["125m", 768, 12, 12, 768],
    ["350m", 1024, 24, 16, 512],
    ["1.3b", 2048, 24, 32, 2048],
    ["2.7b", 2560, 32, 32, 2560],
    ["6.7b", 4096, 32, 32, 4096],
    ["13b", 5120, 40, 40, 5120],
    ["30b", 7168, 48, 56, 7168],
    ["66b", 9216, 64, 72, 9216],
    ["175b", 12288, 96, 96, 12288],
  ];

  it.each(published)("accepts the sizes of opt-%s", (_size, hidden, layers, heads, embedding) => {
    const json = {
      model_type: "opt",
      activation_function: "relu",
      hidden_size: hidden,
      ffn_dim: 4 * hidden,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      vocab_size: 50272,
      max_position_embeddings: 2048,
      word_embed_proj_dim: embedding,
      do_layer_norm_before: embedding === hidden,
    };
    expect(parseOptConfig(json, "config.json")).toMatchObject(json);
  });

  it.each([
    ["hidden_size", 0],
    ["hidden_size", 23],
    ["num_hidden_layers", 1e9],
    ["vocab_size", -1],
    ["ffn_dim", "52"],
    ["num_attention_heads", Number.NaN],
    ["activation_function", "gelu"],
    ["model_type", "llama"],
  ])("refuses %s = %s by name and value", (field, value) => {
    const config = { model_type: "opt", ...plain, [field]: value };
    expect(() => parseOptConfig(config, "some/config.json")).toThrow(
      new RegExp(`some/config.json: .*${field}`),
    );
  });
});

/** The gradients behind ShadowLLM's criterion, against central finite differences of a float64 model. */
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import { type Gradients, gradients } from "../../src/train/shadow/backward.ts";
import { openCheckpoint } from "../../src/train/shadow/checkpoint.ts";
import { headImportance, importances, neuronImportance } from "../../src/train/shadow/importance.ts";
import { Products } from "../../src/train/shadow/products.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { float64Logits } from "../helpers/float64-opt.ts";
import { maxDifference } from "../helpers/golden.ts";
import {
  plain,
  type Tensors,
  type Variant,
  variants,
  writeRandomCheckpoint,
} from "../helpers/random-checkpoint.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const kernels = await openKernels({ backend: fastestBackend });
afterAll(() => kernels.dispose());
const folder = temporaryFolder();
const ids = [2, 17, 13, 5, 5, 11];
/** Small, because every element of a difference costs two runs of a slow judge. */
const small: Variant = {
  ...plain,
  hidden_size: 12,
  word_embed_proj_dim: 12,
  ffn_dim: 20,
  num_hidden_layers: 2,
  vocab_size: 19,
};

async function gradientsOf(name: string): Promise<Gradients> {
  const checkpoint = await openCheckpoint(kernels, join(folder, name));
  const products = new Products(kernels, ids.length);
  try {
    return await gradients(checkpoint, products, Int32Array.from(ids));
  } finally {
    products.dispose();
    checkpoint.dispose();
  }
}

/** −Σ log p(next id), in float64. */
function float64Loss(tensors: Tensors, variant: Variant): number {
  const logits = float64Logits(tensors, variant, ids).slice(0, -1);
  return logits.reduce((loss, row, t) => {
    const total = row.reduce((sum, value) => sum + Math.exp(value), 0);
    return loss - row[ids[t + 1]!]! + Math.log(total);
  }, 0);
}

/** Central differences of the loss by the elements of one tensor from `start` on; 2^-12 is exact beside these weights. */
function differences(
  tensors: Tensors,
  variant: Variant,
  name: string,
  start: number,
  count: number,
): number[] {
  const { values } = tensors.get(name)!;
  return Array.from({ length: count }, (_, i) => {
    const held = values[start + i]!;
    const at = (delta: number): [number, number] => {
      values[start + i] = held + delta;
      const moved = values[start + i]!;
      const loss = float64Loss(tensors, variant);
      values[start + i] = held;
      return [loss, moved];
    };
    const [[above, high], [below, low]] = [at(2 ** -12), at(-(2 ** -12))];
    return (above - below) / (high - low);
  });
}

/** Sums a [ids, width] array over the ids. */
const overIds = (values: Float32Array, width: number): number[] =>
  Array.from({ length: width }, (_, c) => ids.reduce((sum, _id, t) => sum + values[t * width + c]!, 0));

describe.each([
  ["plain", small],
  ["final norm removed", { ...small, _remove_final_layer_norm: true }],
  ["untied output", { ...small, tie_word_embeddings: false }],
])("gradients of a model: %s", async (name, variant) => {
  const tensors = await writeRandomCheckpoint(join(folder, name), variant, "f32");
  const found = await gradientsOf(name);
  const { hidden_size: d, ffn_dim: n } = variant;

  it("have the loss of the float64 model", () => {
    expect(found.loss).toBeCloseTo(float64Loss(tensors, variant), 4);
  });

  it("of activations: shifting a neuron's bias shifts it in every token where it is active", () => {
    for (const [l, { activation, activationGradient }] of found.layers.entries()) {
      const shifted = activationGradient.map((g, i) => (activation[i]! > 0 ? g : 0));
      const expected = differences(tensors, variant, `model.decoder.layers.${l}.fc1.bias`, 0, n);
      expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(0.05);
      expect(maxDifference(overIds(shifted, n), expected), `layer ${l}`).toBeLessThan(2e-4);
    }
  });

  it("of heads' outputs: shifting a value's bias shifts them in every token, since attention sums to 1", () => {
    for (const [l, { contextGradient }] of found.layers.entries()) {
      const expected = differences(tensors, variant, `model.decoder.layers.${l}.self_attn.v_proj.bias`, 0, d);
      expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(0.05);
      expect(maxDifference(overIds(contextGradient, d), expected), `layer ${l}`).toBeLessThan(2e-4);
    }
  });

  it("of the embedding, token by token", () => {
    const name = "model.decoder.embed_positions.weight";
    const expected = differences(tensors, variant, name, 2 * d, ids.length * d);
    expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(0.05);
    expect(maxDifference(found.embedding, expected)).toBeLessThan(5e-4);
  });
});

describe("importance", () => {
  it("is |gradient · activation| of neurons, and of heads over their columns", () => {
    const layer = {
      activation: Float32Array.of(2, 0, 1, 3),
      activationGradient: Float32Array.of(-1, 5, 0.5, 0),
      context: Float32Array.of(1, 2, 3, -1),
      contextGradient: Float32Array.of(2, -3, 1, 1),
    };
    expect([...neuronImportance(layer)]).toEqual([2, 0, 0.5, 0]);
    expect([...headImportance(layer, 2)]).toEqual([4, 2]);
  });

  it("comes for every document and layer, zero for the last id of a last block, and gives its memory back", async () => {
    await writeRandomCheckpoint(join(folder, "importance"), plain, "f16");
    const memory = watchMemory(kernels);
    const seen: [number, number[], number[]][] = [];
    const documents = [Int32Array.of(2, 9, 4), Int32Array.of(2, 7)];
    await importances(kernels, join(folder, "importance"), documents, (document, neurons, heads) => {
      seen.push([document, neurons.map((x) => x.length), heads.map((x) => x.length)]);
      const last = neurons.at(-1)!.slice(-plain.ffn_dim);
      expect(Math.max(...last)).toBe(0);
      expect(Math.max(...neurons[0]!)).toBeGreaterThan(0);
    });
    expect(seen).toEqual([
      [0, [156, 156, 156], [9, 9, 9]],
      [1, [104, 104, 104], [6, 6, 6]],
    ]);
    expect(memory.live.size).toBe(0);
    memory.end();
  });

  it("is refused for models whose blocks are other", async () => {
    const name = "post-norm";
    await writeRandomCheckpoint(join(folder, name), variants["post-norm with projections (350m)"]!, "f32");
    await expect(openCheckpoint(kernels, join(folder, name))).rejects.toThrow("pre-norm");
  });
});

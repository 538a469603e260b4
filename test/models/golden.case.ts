/** Logits, block inputs, head norms and activations against the golden file, for any backend. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Kernels } from "../../src/kernels/contract.ts";
import type { Model } from "../../src/models/model.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import { type RecordedKind, Recorder } from "../../src/train/recorder.ts";
import { openWeights } from "../../src/weights/index.ts";
import { golden, goldenTensor, maxDifference, storiesFolder } from "../helpers/golden.ts";
import { openModel } from "../helpers/open-model.ts";

/** Layer norm of golden residuals with this layer's parameters, in float64: what the projections read. */
function normalise(residual: Float32Array, weight: Float32Array, bias: Float32Array): Float32Array {
  const d = weight.length;
  return residual.map((_, i) => {
    const row = residual.subarray(i - (i % d), i - (i % d) + d);
    const mean = row.reduce((a, b) => a + b, 0) / d;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / d;
    return ((residual[i]! - mean) / Math.sqrt(variance + 1e-5)) * weight[i % d]! + bias[i % d]!;
  });
}

export function goldenSuite(name: string, open: () => Kernels, tolerance: number): void {
  describe(`${name} against the golden file`, () => {
    let kernels: Kernels;
    let model: Model;
    beforeAll(async () => {
      kernels = open();
      model = await openModel(kernels, storiesFolder);
    });
    afterAll(() => kernels?.dispose());

    // What keys and values lose in f16 moves logits of up to 20 by a few thousandths.
    it.each([
      [0, "f32", tolerance],
      [1, "f32", tolerance],
      [2, "f32", tolerance],
      [0, undefined, 1e-2],
    ] as const)("gives the logits of case %i with a cache of %s", async (index, cacheDtype, tolerance) => {
      const ids = Int32Array.from(golden.cases[index]!.ids);
      const { values } = await goldenTensor(`case${index}.logits`);
      const state = model.createState({ capacity: ids.length, maxRows: 64, cacheDtype });
      model.forward(state, ids, denseSelector, "all");
      const logits = new Float32Array(values.length);
      await kernels.read(state.logits, logits);
      state.dispose();
      expect(maxDifference(logits, values)).toBeLessThan(tolerance);
    });

    it("gives the inputs, head norms and activations of every block", async () => {
      const ids = Int32Array.from(golden.cases[0]!.ids);
      const recorder = new Recorder(kernels, model.shape, 64);
      const state = model.createState({ capacity: ids.length, maxRows: 64, cacheDtype: "f32" });
      model.forward(state, ids, recorder, "none");
      const recorded = async (kind: RecordedKind, layer: number, width: number) => {
        const values = new Float32Array(ids.length * width);
        await recorder.read(kind, layer, values);
        return values;
      };
      for (const [kind, tensor, norm] of [
        ["attentionInput", "attention_input", "self_attn_layer_norm"],
        ["mlpInput", "mlp_input", "final_layer_norm"],
        ["headNorm", "head_norm", null],
        ["activation", "mlp_activation", null],
      ] as const) {
        const { shape, values } = await goldenTensor(`case0.${tensor}`);
        const [layers, rows, width] = shape as [number, number, number];
        for (let layer = 0; layer < layers; layer++) {
          let expected = values.subarray(layer * rows * width, (layer + 1) * rows * width);
          if (norm !== null) expected = normalise(expected, ...(await layerNormParameters(layer, norm)));
          expect(maxDifference(await recorded(kind, layer, width), expected)).toBeLessThan(tolerance);
        }
      }
      state.dispose();
      recorder.dispose();
    });
  });
}

/** Reads layer-norm vectors of stories-4m, which are binary16 in the file. */
async function layerNormParameters(layer: number, norm: string): Promise<[Float32Array, Float32Array]> {
  const weights = await openWeights(storiesFolder);
  const vector = async (name: string) => {
    const bytes = new Uint8Array(weights.tensors.get(name)!.shape[0]! * 2);
    await weights.read(name, bytes);
    return Float32Array.from(new Uint16Array(bytes.buffer), f16ToNumber);
  };
  try {
    const at = `model.decoder.layers.${layer}.${norm}`;
    return [await vector(`${at}.weight`), await vector(`${at}.bias`)];
  } finally {
    await weights.close();
  }
}

/** Bytes of weights that a token reads, by the part of the model they belong to. */
import type { Model } from "../models/model.ts";
import type { Bytes, BytesByPart, LayerSparsity, Scored } from "./schema.ts";

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** @param predictors the run under the bundle's policy; null without a bundle */
export function bytesByPart(
  model: Model,
  sparsity: readonly LayerSparsity[],
  predictors: Scored | null,
): Bytes {
  const { perHead, perRecovered, perNeuron, perActive } = model.weightBytes;
  const { layers, heads, ffnDim } = model.shape;
  const dense: BytesByPart = {
    fc1: layers * ffnDim * perNeuron,
    fc2: layers * ffnDim * perActive,
    headProjections: layers * heads * perHead,
    keyValues: layers * heads * perRecovered,
    predictors: 0,
    always: alwaysRead(model),
  };
  const active = sum(sparsity.map(({ mean }) => mean * ffnDim));
  const trueSets = { ...dense, fc1: active * perNeuron, fc2: active * perActive };
  return { dense, trueSets, touched: predictors && touchedParts(model, predictors) };
}

/** Whatever is selected: norms, biases, rows of the tables, and the output layer, all of which evaluation needs. */
const alwaysRead = ({ weightBytes, shape }: Model): number =>
  weightBytes.always + shape.vocabSize * weightBytes.perWord;

function touchedParts(model: Model, { layers, bytes }: Scored): BytesByPart {
  const { weightBytes, shape } = model;
  const { perHead, perNeuron } = weightBytes;
  const always = alwaysRead(model);
  const fc1 = sum(layers.map(({ mlp }) => mlp.density * shape.ffnDim * perNeuron));
  const headProjections = sum(layers.map(({ heads }) => heads.density * shape.heads * perHead));
  return {
    fc1,
    fc2: bytes.mlpTouched - bytes.neuronPredictors - fc1,
    headProjections,
    // All of them, or those of the heads that caught up, as the bundle's policy has it.
    keyValues: bytes.touched - always - bytes.mlpTouched - bytes.headPredictors - headProjections,
    predictors: bytes.neuronPredictors + bytes.headPredictors,
    always,
  };
}

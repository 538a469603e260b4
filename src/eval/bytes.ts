/** Bytes of weights that a token reads: what the memory of the machine has to deliver, and what sparsity saves. */
import type { Model } from "../models/model.ts";
import type { Selector } from "../sparsity/selector.ts";
import type { Tally } from "../sparsity/tally.ts";

export interface BytesPerToken {
  /** All weights that a dense token reads. */
  readonly dense: number;
  /** Weights that the selected units' token read on average, the predictors' included. */
  readonly touched: number;
  /** Of `touched`: the predictors' own weights. */
  readonly predictor: number;
  /** The MLP alone: fc1 and fc2 dense; rows touched of both plus the neurons' predictors. */
  readonly mlp: { readonly dense: number; readonly touched: number };
}

export function bytesPerToken(model: Model, selector: Selector, tally: Tally): BytesPerToken {
  const { always, perWord, screen, perHead, perRecovered, perNeuron, perActive } = model.weightBytes;
  const { layers, heads, ffnDim, vocabSize } = model.shape;
  const { bytesPerToken: own } = selector;
  const mlpDense = layers * ffnDim * (perNeuron + perActive);
  const headsDense = layers * heads * (perHead + perRecovered);
  let mlpTouched = own.neurons;
  let headsTouched = own.heads;
  for (let layer = 0; layer < layers; layer++) {
    mlpTouched += tally.mean("neurons", layer) * perNeuron + tally.mean("active", layer) * perActive;
    headsTouched += tally.mean("heads", layer) * perHead + tally.mean("recovered", layer) * perRecovered;
  }
  const output = vocabSize * perWord;
  const { share, words } = tally.screened;
  const outputTouched = (1 - share) * output + share * (screen + words * perWord);
  return {
    dense: always + output + mlpDense + headsDense,
    touched: always + outputTouched + mlpTouched + headsTouched,
    predictor: own.neurons + own.heads,
    mlp: { dense: mlpDense, touched: mlpTouched },
  };
}

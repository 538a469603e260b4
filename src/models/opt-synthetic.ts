/**
 * An OPT model of random weights, for timing at sizes that nobody has trained on this machine. Every matrix has memory of
 * its own, so that caches tell no lies. The biases of fc1 are high, so that every neuron that is computed is active and
 * no row of fc2 is saved by luck.
 */
import type { Kernels } from "../kernels/contract.ts";
import type { BlockWeights, Linear, Norm } from "../layers/block.ts";
import type { WeightDtype } from "../tensor/dtype.ts";
import { byteLength } from "../tensor/tensor.ts";
import { dtypeFor } from "./checkpoint.ts";
import type { Model } from "./model.ts";
import { createOpt } from "./opt.ts";
import type { OptConfig } from "./opt-config.ts";
import { positionOffset } from "./opt-weights.ts";
import type { RandomWeights } from "./random-weights.ts";

/** Standard deviations of fc1's products by which its bias exceeds zero. */
const activeBias = 6;

/** Bytes of the weights of a model in a format, without making it. */
export function syntheticBytes(config: OptConfig, dtype: WeightDtype): number {
  const { hidden_size: d, ffn_dim: n, vocab_size: vocab, max_position_embeddings: positions } = config;
  const matrix = (rows: number, columns: number) => byteLength({ dtype, shape: [rows, columns] });
  const table = (rows: number) => byteLength({ dtype: dtypeFor("table", dtype), shape: [rows, d] });
  const vectors = 4 * (9 * d + n);
  const block = 4 * matrix(d, d) + 2 * matrix(n, d) + vectors;
  return table(vocab) + table(positions + positionOffset) + config.num_hidden_layers * block + 8 * d;
}

/**
 * @param random makes the weights; what it has made becomes the model's
 * @param onBlock called after each block
 * @throws the signal's reason
 */
export async function syntheticOpt(
  kernels: Kernels,
  random: RandomWeights,
  config: OptConfig,
  dtype: WeightDtype,
  onBlock: (done: number, total: number) => void = () => {},
  signal?: AbortSignal,
): Promise<Model> {
  const { hidden_size: d, ffn_dim: n, vocab_size: vocab, num_hidden_layers: layers } = config;
  const linear = async (rows: number, columns: number, outputs: number, bias = 0): Promise<Linear> => ({
    weight: await random.matrix(dtype, rows, columns),
    bias: random.vector(outputs, bias),
  });
  const norm = (): Norm => ({ weight: random.vector(d, 1), bias: random.vector(d, 0) });
  const block = async (): Promise<BlockWeights> => ({
    attentionNorm: norm(),
    query: await linear(d, d, d),
    key: await linear(d, d, d),
    value: await linear(d, d, d),
    outputTransposed: await linear(d, d, d),
    mlpNorm: norm(),
    fc1: await linear(n, d, n, activeBias),
    fc2Transposed: await linear(n, d, d),
  });
  const table = dtypeFor("table", dtype);
  const embedTokens = await random.matrix(table, vocab, d);
  const embedPositions = await random.matrix(table, config.max_position_embeddings + positionOffset, d);
  const finalNorm = norm();
  const blocks: BlockWeights[] = [];
  for (let layer = 0; layer < layers; layer++) {
    signal?.throwIfAborted();
    blocks.push(await block());
    onBlock(layer + 1, layers);
  }
  return createOpt(kernels, config, {
    embedTokens,
    embedPositions,
    projectIn: null,
    blocks,
    finalNorm,
    projectOut: null,
    output: embedTokens,
    all: random.made,
  });
}

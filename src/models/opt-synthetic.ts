/**
 * An OPT model of random weights, for timing at sizes that nobody has trained on this machine. Every matrix has memory of
 * its own, so that caches tell no lies. The biases of fc1 are high, so that every neuron that is computed is active and
 * no row of fc2 is saved by luck.
 */
import type { Kernels } from "../kernels/contract.ts";
import { byteLength } from "../tensor/tensor.ts";
import { type CheckpointTensors, dtypeFor, type Role, type WeightFormat } from "./checkpoint.ts";
import type { Model } from "./model.ts";
import { createOpt } from "./opt.ts";
import type { OptConfig } from "./opt-config.ts";
import { gatherOptWeights, optTensors, positionOffset } from "./opt-weights.ts";
import type { RandomWeights } from "./random-weights.ts";

/** Standard deviations of fc1's products by which its bias exceeds zero. */
const activeBias = 6;
const prefix = "model.decoder.";

/** Bytes of the weights of a model in a format, without making it. */
export function syntheticBytes(config: OptConfig, format: WeightFormat): number {
  const { hidden_size: d, ffn_dim: n, vocab_size: vocab, max_position_embeddings: positions } = config;
  const sized = (role: Role) => (rows: number, columns: number) =>
    byteLength({ dtype: dtypeFor(role, format), shape: [rows, columns] });
  const [matrix, table] = [sized("matrix"), sized("table")];
  const vectors = 4 * (9 * d + n);
  const block = 4 * matrix(d, d) + 2 * matrix(n, d) + vectors;
  return table(vocab, d) + table(positions + positionOffset, d) + config.num_hidden_layers * block + 8 * d;
}

/** The tensors of the shape, made when they are read. */
export function syntheticTensors(
  random: RandomWeights,
  config: OptConfig,
  format: WeightFormat,
  signal?: AbortSignal,
): CheckpointTensors {
  return {
    tensors: optTensors(config, prefix),
    async read({ name, role, shape }) {
      signal?.throwIfAborted();
      const [rows, columns] = shape as [number, number];
      if (role !== "vector") return random.matrix(dtypeFor(role, format), rows, columns);
      const value = name.endsWith("norm.weight") ? 1 : name.endsWith("fc1.bias") ? activeBias : 0;
      return random.vector(rows, value);
    },
  };
}

/**
 * @param random makes the weights; what it makes becomes the model's
 * @param onTensor called after each tensor
 * @throws the signal's reason
 */
export async function syntheticOpt(
  kernels: Kernels,
  random: RandomWeights,
  config: OptConfig,
  format: WeightFormat,
  onTensor?: (done: number, total: number) => void,
  signal?: AbortSignal,
): Promise<Model> {
  const tensors = syntheticTensors(random, config, format, signal);
  return createOpt(kernels, config, await gatherOptWeights(config, prefix, tensors, onTensor));
}

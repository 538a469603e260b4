/** The two selectors that do not look at the token: the same units always, or chance. They show what context is worth. */
import type { Kernels } from "../kernels/contract.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Scorer, UnitKind } from "./selector.ts";

/** Per layer, one score for every unit: how often a neuron was active, how large a head's output was, on the calibration text. */
export interface UnitStatistics {
  readonly heads: readonly Float32Array[]; // [layers][heads]
  readonly neurons: readonly Float32Array[]; // [layers][ffn_dim]
}

/** Ranks units by their statistics: one set for all tokens. */
export function staticScorer(kernels: Kernels, statistics: UnitStatistics, maxRows: number): Scorer {
  const repeat = (scores: Float32Array): Tensor => {
    const tensor = kernels.allocate("f32", [maxRows, scores.length]);
    for (let row = 0; row < maxRows; row++) kernels.write(tensor, scores, row * scores.length);
    return tensor;
  };
  const tensors = { heads: statistics.heads.map(repeat), neurons: statistics.neurons.map(repeat) };
  return {
    repeats: true,
    scores: (unit, block) => tensors[unit][block.layer]!,
    bytes: () => 0,
    dispose() {
      for (const tensor of [...tensors.heads, ...tensors.neurons]) kernels.free(tensor);
    },
  };
}

/** Ranks units by chance, anew for every token and layer. `next` yields numbers in [0, 1). */
export function randomScorer(
  kernels: Kernels,
  units: Readonly<Record<UnitKind, number>>,
  maxRows: number,
  next: () => number,
): Scorer {
  const make = (count: number) => ({
    tensor: kernels.allocate("f32", [maxRows, count]),
    host: new Float32Array(maxRows * count),
  });
  const buffers = { heads: make(units.heads), neurons: make(units.neurons) };
  return {
    repeats: false, // its scores come from outside
    scores(unit, block) {
      const { tensor, host } = buffers[unit];
      const length = block.rows * units[unit];
      for (let i = 0; i < length; i++) host[i] = next();
      kernels.write(tensor, host);
      return tensor;
    },
    bytes: () => 0,
    dispose() {
      kernels.free(buffers.heads.tensor);
      kernels.free(buffers.neurons.tensor);
    },
  };
}

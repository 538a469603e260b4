import type { ActiveSet, Kernels } from "../../src/kernels/contract.ts";
import {
  type AttentionPolicy,
  type BlockView,
  denseKv,
  noBytes,
  type Selector,
  type UnitKind,
} from "../../src/sparsity/selector.ts";

/** A selector that computes the units that `choose` says, by layer and position. */
export function toldSelector(
  kernels: Kernels,
  choose: (unit: UnitKind, layer: number, token: number, units: number) => readonly number[],
  attention: AttentionPolicy = denseKv,
): Selector {
  const fill = (unit: UnitKind, block: BlockView): ActiveSet => {
    const set = block.set(unit);
    for (let r = 0; r < block.rows; r++) {
      const chosen = choose(unit, block.layer, block.position(r), set.units);
      kernels.write(set.indices, Int32Array.from(chosen), r * set.units);
      kernels.write(set.counts, Int32Array.of(chosen.length), set.slot * set.counts.shape[1]! + r);
    }
    return set;
  };
  return {
    kind: "oracle",
    bytesPerToken: noBytes,
    attention,
    heads: (block) => fill("heads", block),
    neurons: (block) => fill("neurons", block),
    dispose() {},
  };
}

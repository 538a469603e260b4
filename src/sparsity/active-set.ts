/** Memory for active sets: one per layer for heads, for neurons and for the neurons that the ReLU let through. */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import type { Tensor } from "../tensor/tensor.ts";

/**
 * The kinds of set that a block fills. `united`: the neurons that any row of a batch selects; `active`: those of them
 * whose activation came out above zero; `recovered`: heads whose keys and values were computed (only their number).
 */
export const setKinds = ["heads", "neurons", "united", "active", "recovered"] as const;
export type SetKind = (typeof setKinds)[number];

/**
 * The sets of all layers. The many neurons' indices are shared between layers (a set is read only within its block);
 * the few heads', and all sizes, are kept per layer, so that one read after a forward tells how much was computed.
 */
export class ActiveSets {
  readonly layers: number;
  readonly maxRows: number;
  readonly counts: Tensor; // i32 [kinds · layers + 1, maxRows]
  /** Words whose logits the last forward computed exactly; null: all. */
  words: ActiveSet | null = null;
  /** Room for such a set; null where words are not screened. */
  readonly candidates: ActiveSet | null;
  readonly units: Readonly<Record<SetKind, number>>;
  readonly #noted: (ActiveSet | null)[]; // [kinds · layers]: what the last forward computed there; null: all units
  readonly #sets: Readonly<Record<SetKind, readonly ActiveSet[]>>;
  readonly #sharedActive: readonly ActiveSet[];
  readonly #indices: readonly Tensor[];

  /** @param words number of words to screen, if they are screened */
  constructor(kernels: Kernels, layers: number, heads: number, neurons: number, maxRows: number, words = 0) {
    this.layers = layers;
    this.maxRows = maxRows;
    this.units = { heads, neurons, united: neurons, active: neurons, recovered: heads };
    const slots = setKinds.length * layers;
    this.counts = kernels.allocate("i32", [slots + 1, maxRows]);
    this.#noted = Array(slots).fill(null);
    const indices: Tensor[] = [];
    const allocate = (units: number): Tensor => {
      const tensor = kernels.allocate("i32", [maxRows, units]);
      indices.push(tensor);
      return tensor;
    };
    const make = (kind: SetKind, indicesOf: (layer: number) => Tensor, shared = false): ActiveSet[] =>
      Array.from({ length: layers }, (_, layer) => ({
        units: this.units[kind],
        indices: indicesOf(layer),
        counts: this.counts,
        slot: setKinds.indexOf(kind) * layers + layer,
        shared,
      }));
    const [chosen, united, active] = [allocate(neurons), allocate(neurons), allocate(neurons)];
    const headSets = make("heads", () => allocate(heads));
    this.#sets = {
      heads: headSets,
      neurons: make("neurons", () => chosen),
      united: make("united", () => united, true),
      active: make("active", () => active),
      recovered: make("recovered", (layer) => headSets[layer]!.indices),
    };
    this.#sharedActive = make("active", () => active, true);
    this.candidates =
      words > 0 ? { units: words, indices: allocate(words), counts: this.counts, slot: slots } : null;
    this.#indices = indices;
  }

  at(kind: SetKind, layer: number): ActiveSet {
    return this.#sets[kind][layer]!;
  }

  /** The set that takes the active ones of `chosen`; shared if that is. */
  activeOf(chosen: ActiveSet, layer: number): ActiveSet {
    return chosen.shared ? this.#sharedActive[layer]! : this.#sets.active[layer]!;
  }

  /** Notes which set a block computed (or, with null, everything). */
  note(kind: SetKind, layer: number, set: ActiveSet | null): void {
    this.#noted[setKinds.indexOf(kind) * this.layers + layer] = set;
  }

  /** What the last forward computed there; null: all units. */
  noted(kind: SetKind, layer: number): ActiveSet | null {
    return this.#noted[setKinds.indexOf(kind) * this.layers + layer]!;
  }

  free(kernels: Kernels): void {
    for (const tensor of this.#indices) kernels.free(tensor);
    kernels.free(this.counts);
  }
}

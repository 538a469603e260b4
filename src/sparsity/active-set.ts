/** Memory for active sets: one per layer for heads, for neurons and for the neurons that the ReLU let through. */
import type { ActiveSet, Kernels } from "../kernels/contract.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** The three kinds of set that a block fills. `active` ⊆ `neurons`: those whose activation came out above zero. */
export const setKinds = ["heads", "neurons", "active"] as const;
export type SetKind = (typeof setKinds)[number];

/**
 * The sets of all layers. The many neurons' indices are shared between layers (a set is read only within its block);
 * the few heads', and all sizes, are kept per layer, so that one read after a forward tells how much was computed.
 */
export class ActiveSets {
  readonly layers: number;
  readonly maxRows: number;
  readonly counts: Tensor; // i32 [3 · layers, maxRows]
  readonly units: Readonly<Record<SetKind, number>>;
  /** used[slot] is 1 if the last forward computed only a set there, 0 if it computed all units. */
  readonly used: Uint8Array; // [3 · layers]
  readonly #sets: Readonly<Record<SetKind, readonly ActiveSet[]>>;
  readonly #indices: readonly Tensor[];

  constructor(kernels: Kernels, layers: number, heads: number, neurons: number, maxRows: number) {
    this.layers = layers;
    this.maxRows = maxRows;
    this.units = { heads, neurons, active: neurons };
    this.counts = kernels.allocate("i32", [setKinds.length * layers, maxRows]);
    this.used = new Uint8Array(setKinds.length * layers);
    const indices: Tensor[] = [];
    const allocate = (units: number): Tensor => {
      const tensor = kernels.allocate("i32", [maxRows, units]);
      indices.push(tensor);
      return tensor;
    };
    const make = (kind: SetKind, indicesOf: (layer: number) => Tensor): ActiveSet[] =>
      Array.from({ length: layers }, (_, layer) => ({
        units: this.units[kind],
        indices: indicesOf(layer),
        counts: this.counts,
        slot: setKinds.indexOf(kind) * layers + layer,
      }));
    const [shared, sharedActive] = [allocate(neurons), allocate(neurons)];
    this.#sets = {
      heads: make("heads", () => allocate(heads)),
      neurons: make("neurons", () => shared),
      active: make("active", () => sharedActive),
    };
    this.#indices = indices;
  }

  at(kind: SetKind, layer: number): ActiveSet {
    return this.#sets[kind][layer]!;
  }

  /** Notes whether a block computed a set (or, with null, everything). */
  note(kind: SetKind, layer: number, set: ActiveSet | null): void {
    this.used[setKinds.indexOf(kind) * this.layers + layer] = set === null ? 0 : 1;
  }

  /** Whether the last forward computed only a set there. */
  isUsed(kind: SetKind, layer: number): boolean {
    return this.used[setKinds.indexOf(kind) * this.layers + layer] === 1;
  }

  free(kernels: Kernels): void {
    for (const tensor of this.#indices) kernels.free(tensor);
    kernels.free(this.counts);
  }
}

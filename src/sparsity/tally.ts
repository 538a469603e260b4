/** Sums up how many units forwards computed: densities, and the bytes that follow from them. */
import type { Kernels } from "../kernels/contract.ts";
import { type ActiveSets, type SetKind, setKinds } from "./active-set.ts";

export class Tally {
  /** Tokens counted. */
  rows = 0;
  readonly #sets: ActiveSets;
  readonly #counts: Int32Array;
  readonly #sums: Float64Array; // [kinds · layers] units computed
  #words = 0; // exact logits, of the tokens whose words were screened
  #screened = 0; // such tokens

  constructor(sets: ActiveSets) {
    this.#sets = sets;
    this.#counts = new Int32Array(sets.counts.shape[0]! * sets.maxRows);
    this.#sums = new Float64Array(setKinds.length * sets.layers);
  }

  /** Adds the first `rows` rows of the last forward. */
  async add(kernels: Kernels, rows: number): Promise<void> {
    const { layers, maxRows, units } = this.#sets;
    await kernels.read(this.#sets.counts, this.#counts);
    for (const [k, kind] of setKinds.entries())
      for (let layer = 0; layer < layers; layer++) {
        const set = this.#sets.noted(kind, layer);
        let sum = rows * units[kind];
        if (set?.shared) sum = rows * this.#counts[set.slot * maxRows]!;
        else if (set) {
          sum = 0;
          for (let r = 0; r < rows; r++) sum += this.#counts[set.slot * maxRows + r]!;
        }
        this.#sums[k * layers + layer]! += sum;
      }
    this.rows += rows;
    const { words } = this.#sets;
    if (words === null) return;
    this.#screened += rows;
    for (let r = 0; r < rows; r++) this.#words += this.#counts[words.slot * maxRows + r]!;
  }

  /** Share of tokens whose words were screened, and how many words such a token computed exactly. */
  get screened(): { share: number; words: number } {
    if (this.#screened === 0) return { share: 0, words: 0 };
    return { share: this.#screened / this.rows, words: this.#words / this.#screened };
  }

  /** Mean number of units that a token computed in a layer. */
  mean(kind: SetKind, layer: number): number {
    return this.rows === 0 ? 0 : this.total(kind, layer) / this.rows;
  }

  /** Units computed in a layer, all tokens together. */
  total(kind: SetKind, layer: number): number {
    return this.#sums[setKinds.indexOf(kind) * this.#sets.layers + layer]!;
  }

  /** Share of units computed, over all layers; 1 before anything was counted. */
  density(kind: SetKind): number {
    if (this.rows === 0) return 1;
    let sum = 0;
    for (let layer = 0; layer < this.#sets.layers; layer++) sum += this.mean(kind, layer);
    return sum / (this.#sets.layers * this.#sets.units[kind]);
  }
}

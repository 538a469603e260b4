/** The shapes that can be compared: those of OPT, since that is what dejavu runs. */

/** A decoder with two matrices in the MLP, layer norms before both halves, biases and learned positions. */
export interface Shape {
  readonly name: string;
  readonly hidden: number;
  readonly ffn: number;
  readonly layers: number;
  readonly heads: number;
  readonly vocab: number;
  /** Tokens that fit; OPT's own table has two rows more, which no position uses. */
  readonly positions: number;
  /** For trying the peers' adapters: dejavu runs published shapes only. */
  readonly isPeersOnly?: true;
}

export const shapes: readonly Shape[] = [
  {
    name: "tiny",
    hidden: 128,
    ffn: 512,
    layers: 2,
    heads: 2,
    vocab: 512,
    positions: 2048,
    isPeersOnly: true,
  },
  { name: "opt-125m", hidden: 768, ffn: 3072, layers: 12, heads: 12, vocab: 50272, positions: 2048 },
  { name: "opt-1.3b", hidden: 2048, ffn: 8192, layers: 24, heads: 32, vocab: 50272, positions: 2048 },
];

export function shapeNamed(name: string): Shape {
  const shape = shapes.find((one) => one.name === name);
  if (shape) return shape;
  throw new Error(`unknown shape "${name}"; use one of ${shapes.map((one) => one.name).join(", ")}`);
}

/** Elements of all weight matrices that one token multiplies by: four of attention, two of the MLP, and the output. */
export function matrixElements({ hidden, ffn, layers, vocab }: Shape): number {
  return layers * (4 * hidden * hidden + 2 * hidden * ffn) + vocab * hidden;
}

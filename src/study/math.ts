/** The arithmetic of a study: angles, sets as bits, the knee of a curve. */

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Cosine of the angle between `length` values of `a` and of `b`; 0 if either is the zero vector. */
export function cosine(
  a: Float32Array,
  b: Float32Array,
  start = 0,
  length: number = a.length - start,
): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = start; i < start + length; i++) {
    dot += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return aa > 0 && bb > 0 ? dot / Math.sqrt(aa * bb) : 0;
}

/** A set of units, one bit each. */
export type Bits = Uint32Array;

export const emptySet = (units: number): Bits => new Uint32Array(Math.ceil(units / 32));

export function addUnit(set: Bits, unit: number): void {
  set[unit >>> 5]! |= 1 << (unit & 31);
}

function ones(word: number): number {
  let x = word - ((word >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

export function size(set: Bits): number {
  let sum = 0;
  for (const word of set) sum += ones(word);
  return sum;
}

/** |a ∩ b| / |a ∪ b|; two empty sets are alike: 1. */
export function jaccard(a: Bits, b: Bits): number {
  let [both, either] = [0, 0];
  for (let w = 0; w < a.length; w++) {
    both += ones(a[w]! & b[w]!);
    either += ones(a[w]! | b[w]!);
  }
  return either === 0 ? 1 : both / either;
}

/** Number of units that are in any of the sets. */
export function unionSize(sets: readonly Bits[]): number {
  if (sets.length === 0) return 0;
  const all = new Uint32Array(sets[0]!.length);
  for (const set of sets) for (let w = 0; w < all.length; w++) all[w]! |= set[w]!;
  return size(all);
}

/** A knee must lie this far below the line between the curve's ends: a line that wavers has none. */
export const leastKnee = 0.1;

/**
 * The knee of a falling curve: the inner point that lies farthest below the straight line between the curve's ends, both
 * axes scaled to 0 … 1 (Satopää et al. 2011, without smoothing).
 * @param points sorted by x
 * @returns its index, or null where no point lies `leastKnee` below the line
 */
export function knee(points: readonly { readonly x: number; readonly y: number }[]): number | null {
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined || !(first.y > last.y)) return null;
  let best: number | null = null;
  let greatest = leastKnee;
  for (let i = 1; i < points.length - 1; i++) {
    const x = (points[i]!.x - first.x) / (last.x - first.x);
    const y = (points[i]!.y - last.y) / (first.y - last.y);
    const below = 1 - x - y;
    if (below > greatest) [best, greatest] = [i, below];
  }
  return best;
}

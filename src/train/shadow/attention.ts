/** Causal attention of a whole sequence forth and back, on the host. */

export interface Projections {
  readonly query: Float32Array; // [rows, heads · headDim]
  readonly key: Float32Array;
  readonly value: Float32Array;
}

export interface Attention {
  readonly context: Float32Array; // [rows, heads · headDim]
  readonly probabilities: Float32Array; // [heads, rows, rows]; 0 above the diagonal
}

function dot(a: Float32Array, i: number, b: Float32Array, j: number, length: number): number {
  let sum = 0;
  for (let c = 0; c < length; c++) sum += a[i + c]! * b[j + c]!;
  return sum;
}

/** target[i …] += factor · source[j …] */
function add(
  target: Float32Array,
  i: number,
  source: Float32Array,
  j: number,
  length: number,
  factor: number,
) {
  for (let c = 0; c < length; c++) target[i + c]! += factor * source[j + c]!;
}

export function attentionForward({ query, key, value }: Projections, rows: number, heads: number): Attention {
  const width = query.length / rows;
  const headDim = width / heads;
  const context = new Float32Array(query.length);
  const probabilities = new Float32Array(heads * rows * rows);
  for (let head = 0; head < heads; head++)
    for (let t = 0; t < rows; t++) {
      const at = t * width + head * headDim;
      const p = probabilities.subarray((head * rows + t) * rows, (head * rows + t + 1) * rows);
      let largest = Number.NEGATIVE_INFINITY;
      for (let s = 0; s <= t; s++) {
        p[s] = dot(query, at, key, s * width + head * headDim, headDim) / Math.sqrt(headDim);
        largest = Math.max(largest, p[s]!);
      }
      let sum = 0;
      for (let s = 0; s <= t; s++) sum += p[s] = Math.exp(p[s]! - largest);
      for (let s = 0; s <= t; s++) {
        p[s]! /= sum;
        add(context, at, value, s * width + head * headDim, headDim, p[s]!);
      }
    }
  return { context, probabilities };
}

/** @param gradient of the context */
export function attentionBackward(
  gradient: Float32Array,
  { query, key, value }: Projections,
  probabilities: Float32Array,
  rows: number,
  heads: number,
): Projections {
  const width = query.length / rows;
  const headDim = width / heads;
  const [dQuery, dKey, dValue] = [query, key, value].map((x) => new Float32Array(x.length));
  const dProbability = new Float32Array(rows);
  for (let head = 0; head < heads; head++)
    for (let t = 0; t < rows; t++) {
      const at = t * width + head * headDim;
      const p = probabilities.subarray((head * rows + t) * rows, (head * rows + t + 1) * rows);
      let mean = 0;
      for (let s = 0; s <= t; s++) {
        dProbability[s] = dot(gradient, at, value, s * width + head * headDim, headDim);
        mean += p[s]! * dProbability[s]!;
      }
      for (let s = 0; s <= t; s++) {
        const there = s * width + head * headDim;
        const dScore = (p[s]! * (dProbability[s]! - mean)) / Math.sqrt(headDim);
        add(dQuery!, at, key, there, headDim, dScore);
        add(dKey!, there, query, at, headDim, dScore);
        add(dValue!, there, gradient, at, headDim, p[s]!);
      }
    }
  return { query: dQuery!, key: dKey!, value: dValue! };
}

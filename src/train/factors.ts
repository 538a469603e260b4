/** Predictor weights on the host, while they are being made. */

/** The low-rank stand-in for fc1: up·down·(h − mean) + base. */
export interface Factors {
  readonly rank: number;
  readonly units: number;
  readonly width: number;
  readonly down: Float32Array; // [rank, width]
  readonly up: Float32Array; // [units, rank]
  readonly base: Float32Array; // [units]: W1·mean + b1
  readonly mean: Float32Array; // [width]
}

/** A predictor's parameters; `down` is null where one matrix is cheaper than two. */
export interface Parameters {
  readonly rank: number; // 0 without `down`
  readonly down: Float32Array | null; // [rank, width]
  readonly up: Float32Array; // [units, rank], or [units, width] without `down`
  readonly bias: Float32Array; // [units]
}

/** A start for a network with a ReLU between: each matrix uniform within ±1/√inputs, as is usual for linear layers. */
export function randomParameters(rank: number, units: number, width: number, next: () => number): Parameters {
  const matrix = (length: number, inputs: number) =>
    Float32Array.from({ length }, () => (2 * next() - 1) / Math.sqrt(inputs));
  return {
    rank,
    down: matrix(rank * width, width),
    up: matrix(units * rank, rank),
    bias: new Float32Array(units),
  };
}

const rms = (values: Float32Array): number =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

/** The predictor made of the leading `rank` directions, its two matrices scaled to equal size so that one step suits both. */
export function truncate(factors: Factors, rank: number): Parameters {
  const { units, width, mean, base } = factors;
  const down = factors.down.slice(0, rank * width);
  const up = new Float32Array(units * rank);
  for (let u = 0; u < units; u++)
    up.set(factors.up.subarray(u * factors.rank, u * factors.rank + rank), u * rank);
  const projectedMean = Float64Array.from({ length: rank }, (_, i) => {
    let sum = 0;
    for (let c = 0; c < width; c++) sum += down[i * width + c]! * mean[c]!;
    return sum;
  });
  const bias = base.map((value, u) => {
    let sum = 0;
    for (let i = 0; i < rank; i++) sum += up[u * rank + i]! * projectedMean[i]!;
    return value - sum;
  });
  const balance = Math.sqrt(rms(down) / rms(up));
  return { rank, down: down.map((x) => x / balance), up: up.map((x) => x * balance), bias };
}

/** Bytes that one use of the predictor reads: matrices in half precision, bias in float32. */
export function parameterBytes(rank: number, units: number, width: number): number {
  return rank > 0 ? 2 * rank * (units + width) + 4 * units : 2 * units * width + 4 * units;
}

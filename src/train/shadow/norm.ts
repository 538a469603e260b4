/** Layer norm forth and back, on the host. */
import type { HostNorm } from "./checkpoint.ts";

const epsilon = 1e-5;

/** Mean and 1/√(variance + ε) of one row. */
function statistics(x: Float32Array, start: number, width: number): [number, number] {
  let mean = 0;
  for (let i = start; i < start + width; i++) mean += x[i]! / width;
  let variance = 0;
  for (let i = start; i < start + width; i++) variance += (x[i]! - mean) ** 2 / width;
  return [mean, 1 / Math.sqrt(variance + epsilon)];
}

export function normForward(x: Float32Array, width: number, { weight, bias }: HostNorm): Float32Array {
  const out = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    const [mean, scale] = statistics(x, start, width);
    for (let i = 0; i < width; i++)
      out[start + i] = (x[start + i]! - mean) * scale * (weight?.[i] ?? 1) + (bias?.[i] ?? 0);
  }
  return out;
}

/** With n = (x − mean)·s and g the gradient of n: s·(g − mean(g) − n·mean(g·n)). */
export function normBackward(
  gradient: Float32Array,
  x: Float32Array,
  width: number,
  { weight }: HostNorm,
): Float32Array {
  const out = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    const [mean, scale] = statistics(x, start, width);
    let [sum, dot] = [0, 0];
    for (let i = 0; i < width; i++) {
      const g = gradient[start + i]! * (weight?.[i] ?? 1);
      sum += g / width;
      dot += (g * (x[start + i]! - mean) * scale) / width;
    }
    for (let i = 0; i < width; i++) {
      const g = gradient[start + i]! * (weight?.[i] ?? 1);
      out[start + i] = scale * (g - sum - (x[start + i]! - mean) * scale * dot);
    }
  }
  return out;
}

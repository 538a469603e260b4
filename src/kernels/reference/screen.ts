/** Which words can be among the k best, when their logits are known up to a bound. */
import { blockOf, blocksOf } from "../../tensor/quantized.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ActiveSet } from "../contract.ts";
import { floatsOf, intsOf } from "./tensor.ts";

/** L2 norms of x and of what rounding to int8 codes may have taken from it, both a little above. */
function normsOf(x: Float32Array): { length: number; lost: number } {
  let [size, lost] = [0, 0];
  const most = new Float64Array(blocksOf(x.length));
  x.forEach((v, c) => {
    most[blockOf(c)] = Math.max(most[blockOf(c)]!, Math.abs(v));
  });
  x.forEach((v, c) => {
    const largest = most[blockOf(c)]!;
    lost += (largest < 1e-36 ? largest : (largest / 127) * 0.501) ** 2;
    size += v * v;
  });
  const length = Math.sqrt(size);
  const sums = (x.length + 64) * 2 ** -22 * length;
  return { length: (length + sums) * 1.000001, lost: (Math.sqrt(lost) + sums) * 1.000001 };
}

export function screen(
  set: ActiveSet,
  out: Tensor,
  scores: Tensor,
  x: Tensor,
  norms: Tensor,
  k: number,
  rows: number,
): void {
  const words = set.units;
  const width = x.shape[1]!;
  const [sizes, values, logits] = [floatsOf(norms), floatsOf(scores), floatsOf(out)];
  const indices = intsOf(set.indices);
  for (let r = 0; r < rows; r++) {
    const { length, lost } = normsOf(floatsOf(x).subarray(r * width, (r + 1) * width));
    const bound = (word: number) => sizes[words + word]! * length + sizes[word]! * lost;
    const lower = Float64Array.from({ length: words }, (_, word) => values[r * words + word]! - bound(word));
    const ranked = lower.filter((v) => v > Number.NEGATIVE_INFINITY).sort();
    const least = ranked.length < k ? Number.NEGATIVE_INFINITY : ranked[ranked.length - k]!;
    let count = 0;
    for (let word = 0; word < words; word++)
      if (!(values[r * words + word]! + bound(word) < least)) indices[r * words + count++] = word;
    intsOf(set.counts)[set.slot * set.counts.shape[1]! + r] = count;
    logits.fill(Number.NEGATIVE_INFINITY, r * words, (r + 1) * words);
  }
}

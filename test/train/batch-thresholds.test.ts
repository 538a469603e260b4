/** Thresholds for batches: what a batch needs less of each row, counted by brute force. */
import { describe, expect, it } from "vitest";
import { createRng } from "../../src/sampling/rng.ts";
import { batchSizes, type Judged, raiseThresholds, withBatches } from "../../src/train/batch-thresholds.ts";
import { denseRung } from "../../src/train/ladder.ts";
import type { PreparedLayer } from "../../src/train/prepared-layer.ts";

const units = 48;
const rows = 400;

/** A predictor that is right most of the time about neurons of which some are active far more often than others. */
function judged(seed: number): Judged {
  const rng = createRng(seed);
  const logits = new Float32Array(rows * units);
  const active = new Uint8Array(rows * units);
  for (let i = 0; i < logits.length; i++) {
    const isActive = rng.next() < 0.05 + (0.4 * (i % units)) / units;
    active[i] = isActive ? 1 : 0;
    logits[i] = (isActive ? 1 : -1) + 3 * (rng.next() - 0.5);
  }
  return { units, rows, logits, active };
}

/** Mean recall and size of the union of `size` rows drawn at random. */
function union({ logits, active }: Judged, size: number, threshold: number) {
  const rng = createRng(99);
  let [recall, chosen] = [0, 0];
  const draws = 300;
  for (let draw = 0; draw < draws; draw++) {
    const batch = Array.from({ length: size }, () => rng.nextInt(rows) * units);
    let [met, needed] = [0, 0];
    for (let u = 0; u < units; u++) {
      const need = batch.filter((row) => active[row + u] === 1).length;
      needed += need;
      if (!batch.some((row) => logits[row + u]! > threshold)) continue;
      met += need;
      chosen += 1;
    }
    recall += met / Math.max(1, needed) / draws;
  }
  return { recall, density: chosen / draws / units };
}

describe("thresholds of batches", () => {
  it("keep the recall of one alone, with fewer neurons than its threshold would take", () => {
    const layer = judged(1);
    const threshold = 0.2;
    const alone = union(layer, 1, threshold).recall;
    const raised = raiseThresholds(layer, [threshold]).get(threshold)!;
    for (const [i, size] of batchSizes.entries()) {
      const [before, after] = [union(layer, size, threshold), union(layer, size, raised[i]!)];
      expect(after.recall).toBeGreaterThan(alone - 0.03);
      expect(after.recall).toBeLessThan(Math.max(alone + 0.05, before.recall));
      if (size >= 4) expect(after.density).toBeLessThan(before.density);
    }
  });

  it("never fall below the threshold of one alone", () => {
    for (let seed = 0; seed < 5; seed++)
      for (const [threshold, raised] of raiseThresholds(judged(seed), [-3, -1, 0, 1, 3]))
        for (const one of raised) expect(one).toBeGreaterThanOrEqual(threshold);
  });

  it("are stated for each layer with a threshold, and null for others", () => {
    const raised = new Map([[0.5, [1, 2, 3, 4, 5, 6]]]);
    const neurons = [{ raised }, { raised: new Map() }] as unknown as PreparedLayer[];
    const policy = {
      attention: "dense-kv" as const,
      heads: [denseRung.policy, denseRung.policy],
      neurons: [{ kind: "threshold" as const, threshold: 0.5 }, denseRung.policy],
    };
    expect(withBatches(policy, neurons).batches).toEqual(
      batchSizes.map((sequences, i) => ({ sequences, neurons: [i + 1, null] })),
    );
    expect(withBatches({ ...policy, neurons: policy.heads }, neurons).batches).toBeUndefined();
  });
});

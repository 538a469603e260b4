/** Batches drawn from different documents: how many neurons some token of the batch needs. */
import type { Rng } from "../sampling/rng.ts";
import { type Bits, jaccard, mean, unionSize } from "./math.ts";
import type { BatchUnion } from "./schema.ts";

/** A token kept for drawing batches. */
export interface Sample {
  readonly trueSets: readonly Bits[]; // [layers]
  /** null where there is no predictor, or it leaves the layer dense. */
  readonly predictedSets: readonly (Bits | null)[]; // [layers]
}

/** Samples of each document. */
export type Samples = readonly (readonly Sample[])[];

/** One token each of `count` different documents. */
function draw(samples: Samples, count: number, rng: Rng): Sample[] {
  const order = samples.map((_, d) => d);
  for (let i = 0; i < count; i++) {
    const j = i + rng.nextInt(order.length - i);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order.slice(0, count).map((d) => samples[d]![rng.nextInt(samples[d]!.length)]!);
}

const shareOf = (sets: readonly (Bits | null)[], units: number): number =>
  sets.some((set) => set === null) ? 1 : unionSize(sets as readonly Bits[]) / units;

/**
 * Mean unions for each batch size that there are documents for.
 * @param units neurons of a layer
 */
export function batchUnions(
  samples: Samples,
  sizes: readonly number[],
  draws: number,
  units: number,
  hasPredictor: boolean,
  rng: Rng,
): BatchUnion[] {
  const layers = samples[0]?.[0]?.trueSets.length ?? 0;
  const possible = sizes.filter((batch) => batch <= samples.length);
  return possible.map((batch) => {
    const batches = Array.from({ length: draws }, () => draw(samples, batch, rng));
    const perLayer = Array.from({ length: layers }, (_, layer) => ({
      layer,
      true: mean(
        batches.map((tokens) =>
          shareOf(
            tokens.map((t) => t.trueSets[layer]!),
            units,
          ),
        ),
      ),
      predicted: hasPredictor
        ? mean(
            batches.map((tokens) =>
              shareOf(
                tokens.map((t) => t.predictedSets[layer]!),
                units,
              ),
            ),
          )
        : null,
    }));
    return {
      batch,
      true: mean(perLayer.map((l) => l.true)),
      predicted: hasPredictor ? mean(perLayer.map((l) => l.predicted!)) : null,
      layers: perLayer,
    };
  });
}

/** Mean overlap, per layer, of two tokens from different documents; 1 where there is only one document. */
export function anyTokenOverlap(samples: Samples, draws: number, rng: Rng): number[] {
  const layers = samples[0]?.[0]?.trueSets.length ?? 0;
  if (samples.length < 2) return Array(layers).fill(1);
  const pairs = Array.from({ length: draws }, () => draw(samples, 2, rng));
  return Array.from({ length: layers }, (_, layer) =>
    mean(pairs.map(([a, b]) => jaccard(a!.trueSets[layer]!, b!.trueSets[layer]!))),
  );
}

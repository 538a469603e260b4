/** How many units a selector may compute, per layer: data that calibration makes and a bundle carries. */
import { z } from "zod";

const layerPolicy = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("dense") }),
  z.strictObject({ kind: z.literal("topK"), k: z.int().min(1) }),
  z.strictObject({ kind: z.literal("threshold"), threshold: z.number() }),
]);

/** `dense`: all units; `topK`: the k best scores; `threshold`: every score above it. */
export type LayerPolicy = z.infer<typeof layerPolicy>;

/** One entry per layer. In `dense-kv` the keys and values of all heads are computed, whatever is selected. */
export const policySchema = z.strictObject({
  attention: z.literal("dense-kv"),
  heads: z.array(layerPolicy),
  neurons: z.array(layerPolicy),
});
export type Policy = z.infer<typeof policySchema>;

/** The same policy in every layer. */
export function uniformPolicy(layers: number, heads: LayerPolicy, neurons: LayerPolicy): Policy {
  return { attention: "dense-kv", heads: Array(layers).fill(heads), neurons: Array(layers).fill(neurons) };
}

/** The top-k policy for a share of `units`; at least one unit, and dense at 1. */
export function densityPolicy(density: number, units: number): LayerPolicy {
  if (density >= 1) return { kind: "dense" };
  return { kind: "topK", k: Math.max(1, Math.round(density * units)) };
}

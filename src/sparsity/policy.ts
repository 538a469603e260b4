/** How many units a selector may compute, per layer: data that calibration makes and a bundle carries. */
import { z } from "zod";

const layerPolicy = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("dense") }),
  z.strictObject({ kind: z.literal("topK"), k: z.int().min(1) }),
  z.strictObject({ kind: z.literal("threshold"), threshold: z.number() }),
]);

/** `dense`: all units; `topK`: the k best scores; `threshold`: every score above it. */
export type LayerPolicy = z.infer<typeof layerPolicy>;

export const attentionModes = ["dense-kv", "recover"] as const;
/**
 * What becomes of the keys and values of skipped heads. `dense-kv`: they are computed all the same. `recover`: the
 * block's inputs are kept, and they are computed when the head is next selected (Deja Vu, section 4.2).
 */
export type AttentionMode = (typeof attentionModes)[number];

/**
 * Thresholds of the neurons for so many sequences or more together. They share the union of what each selects, so that
 * each may select less itself and still have as much; null where the layer has no threshold.
 */
const batchThresholds = z.strictObject({
  sequences: z.int().min(2),
  neurons: z.array(z.number().nullable()),
});
export type BatchThresholds = z.infer<typeof batchThresholds>;

/** One entry per layer. */
export const policySchema = z.strictObject({
  attention: z.enum(attentionModes),
  /** With `recover`: all heads catch up after every so many positions, which bounds what must be kept; else never. */
  refresh: z.int().min(1).optional(),
  heads: z.array(layerPolicy),
  neurons: z.array(layerPolicy),
  /** Ascending numbers of sequences. Without: the same thresholds for any number. */
  batches: z.array(batchThresholds).optional(),
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

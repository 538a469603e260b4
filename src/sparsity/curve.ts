/** The trade-off between bytes and quality that a bundle carries, and how a point of it is picked. */
import { z } from "zod";
import { BundleError, UsageError } from "../util/errors.ts";
import { policySchema } from "./policy.ts";

/** What a policy cost on one half of the held-out documents. */
const loss = z.strictObject({
  /** Perplexity over the dense model's, less 1: 0.01 is one percent more. */
  perplexityIncrease: z.number(),
  /** KL(dense ‖ sparse), nats per token. */
  kl: z.number(),
});

type Loss = z.infer<typeof loss>;

/**
 * What a loss counts as against a budget: the perplexity increase on the text, or the one to be expected on text that the
 * dense model itself would write, which is what divergence says, if that is more. Luck with the text does not count.
 */
export const lossAgainstBudget = ({ perplexityIncrease, kl }: Loss): number =>
  Math.max(perplexityIncrease, Math.expm1(kl));

/** Bytes of weights that a token reads, the predictors' included; measured on the calibrated half. */
const touched = { bytesPerToken: z.number(), mlpBytesPerToken: z.number() };

export const curvePoint = z.strictObject({
  policy: policySchema,
  /** Mean share of units computed per layer: what selectors without logits are sized by. */
  densities: z.strictObject({ heads: z.array(z.number()), neurons: z.array(z.number()) }),
  ...touched,
  /** On the half that the search looked at, and on the half that it did not. */
  calibrated: loss,
  reported: loss,
  /** What the point may be picked for: the loss against a budget, no less than on either half or of a denser point. */
  quality: z.number().min(0),
});
export type CurvePoint = z.infer<typeof curvePoint>;

/** What the search was asked for, what it cost, and what one density for all layers would have done. */
export const searchRecord = z.strictObject({
  maxPerplexityIncrease: z.number(),
  /** Tokens run through the model, under a trial policy or densely beside it. */
  forwardTokens: z.int(),
  documents: z.strictObject({ calibrated: z.int(), reported: z.int() }),
  tokens: z.strictObject({ calibrated: z.int(), reported: z.int() }),
  dense: z.strictObject({ ...touched, perplexity: z.number() }),
  /** The lowest density of neurons, the same top-k in every layer, within the budget on the calibrated half. */
  uniform: z.strictObject({ density: z.number(), ...touched, calibrated: loss, reported: loss }).nullable(),
});
export type SearchRecord = z.infer<typeof searchRecord>;

/** The point that reads fewest bytes among those good enough; undefined if none is. */
export function cheapestWithin(curve: readonly CurvePoint[], quality: number): CurvePoint | undefined {
  const fit = curve.filter((point) => point.quality <= quality);
  return fit.reduce<CurvePoint | undefined>(
    (best, point) => (best === undefined || point.bytesPerToken < best.bytesPerToken ? point : best),
    undefined,
  );
}

const percent = (share: number): string => `${Number((share * 100).toPrecision(2))} %`;

/**
 * The point of a bundle's curve for a quality: the perplexity increase that is acceptable.
 * @throws UsageError, BundleError when the quality is none, there is no curve, or no point of it is that good
 */
export function pointFor(file: string, curve: readonly CurvePoint[], quality: number): CurvePoint {
  if (!(quality > 0 && quality <= 1))
    throw new UsageError(
      `quality is ${quality}; it is the perplexity increase that is acceptable, above 0 and at most 1`,
    );
  if (curve.length === 0)
    throw new BundleError(
      `${file}: the bundle has no trade-off curve to pick quality ${quality} from. Make one with: dejavu prepare --max-perplexity-increase`,
    );
  const point = cheapestWithin(curve, quality);
  if (point !== undefined) return point;
  const points = curve.map((one) => percent(one.quality)).join(", ");
  throw new UsageError(
    `quality ${quality} (${percent(quality)} more perplexity) is better than every point of ${file}; it has ${points}. Nothing is lost with the dense selector`,
  );
}

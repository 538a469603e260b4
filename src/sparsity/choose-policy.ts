/** The policy that a selector runs: densities asked for, a point of the bundle's curve, or what the bundle says. */
import { UsageError } from "../util/errors.ts";
import type { Bundle, BundleModel } from "./bundle.ts";
import { pointFor } from "./curve.ts";
import { type AttentionMode, densityPolicy, type LayerPolicy, type Policy, uniformPolicy } from "./policy.ts";
import type { SelectorKind, UnitKind } from "./selector.ts";

export interface PolicyOptions {
  /** The same share of neurons in every layer, instead of the bundle's policy. In (0, 1]. */
  mlpDensity?: number | undefined;
  /** The same share of heads in every layer, instead of the bundle's policy. In (0, 1]. */
  headDensity?: number | undefined;
  /**
   * The perplexity increase that is acceptable, relative to dense: the cheapest point of the bundle's curve within it,
   * instead of the bundle's policy. In (0, 1].
   */
  quality?: number | undefined;
  /** What becomes of skipped heads' keys and values, instead of what the bundle says (else `dense-kv`). */
  attention?: AttentionMode | undefined;
  /** With `recover`: all heads catch up after every so many positions. */
  refresh?: number | undefined;
}

type Shape = Pick<BundleModel, "layers" | "heads" | "ffnDim">;

const dense: LayerPolicy = { kind: "dense" };

function checkOptions(kind: SelectorKind, { mlpDensity, headDensity, quality }: PolicyOptions): void {
  for (const [name, value] of [
    ["mlp density", mlpDensity],
    ["head density", headDensity],
  ] as const)
    if (value !== undefined && !(value > 0 && value <= 1))
      throw new UsageError(`${name} is ${value}; a density is above 0 and at most 1`);
  if (quality === undefined) return;
  if (mlpDensity !== undefined || headDensity !== undefined)
    throw new UsageError(
      `quality ${quality} picks a policy from the bundle, densities replace it; give one of them`,
    );
  if (kind === "oracle")
    throw new UsageError(
      `quality ${quality} says nothing to the oracle, which reads no bundle; give it densities`,
    );
}

function oraclePolicy({ layers, heads, ffnDim }: Shape, { mlpDensity, headDensity }: PolicyOptions): Policy {
  const trueSet = { kind: "threshold", threshold: 0 } as const;
  return uniformPolicy(
    layers,
    headDensity === undefined ? dense : densityPolicy(headDensity, heads),
    mlpDensity === undefined ? trueSet : densityPolicy(mlpDensity, ffnDim),
  );
}

/**
 * @param loadBundle called only if the policy depends on the bundle
 * @throws UsageError, BundleError for options that make no sense, or that this bundle cannot meet
 */
export async function choosePolicy(
  shape: Shape,
  kind: SelectorKind,
  options: PolicyOptions,
  loadBundle: () => Promise<Bundle>,
): Promise<Policy> {
  const policy = await chooseUnits(shape, kind, options, loadBundle);
  const { attention = policy.attention, refresh } = options;
  if (refresh !== undefined && (!Number.isInteger(refresh) || refresh < 1))
    throw new UsageError(`refresh is ${refresh}; it must be an integer of at least 1`);
  if (refresh !== undefined && attention !== "recover")
    throw new UsageError(
      `refresh ${refresh} goes with attention "recover" only; with "${attention}" no head has anything to catch up`,
    );
  if (attention === "recover" && kind === "oracle")
    throw new UsageError(
      'attention "recover" says nothing to the oracle, which computes the keys and values of all heads to know them',
    );
  if (attention === policy.attention && refresh === undefined) return policy;
  const { heads, neurons } = policy;
  return { attention, heads, neurons, ...(refresh !== undefined && { refresh }) };
}

async function chooseUnits(
  shape: Shape,
  kind: SelectorKind,
  options: PolicyOptions,
  loadBundle: () => Promise<Bundle>,
): Promise<Policy> {
  checkOptions(kind, options);
  const { layers, heads, ffnDim } = shape;
  const { mlpDensity, headDensity, quality } = options;
  if (kind === "oracle") return oraclePolicy(shape, options);
  if (mlpDensity !== undefined || headDensity !== undefined) {
    // A density given for one kind of unit leaves the other dense: a curve shows one cause at a time.
    const asked = uniformPolicy(
      layers,
      densityPolicy(headDensity ?? 1, heads),
      densityPolicy(mlpDensity ?? 1, ffnDim),
    );
    if (kind !== "predicted") return asked;
    // Layers that nothing can be predicted for (block 0 has no previous block) stay dense.
    const { predictors } = await loadBundle();
    const possible = (unit: UnitKind) =>
      asked[unit].map((layer, l) => (predictors[unit][l] === null ? dense : layer));
    return { ...asked, heads: possible("heads"), neurons: possible("neurons") };
  }
  return bundlePolicy(shape, kind, quality, await loadBundle());
}

function bundlePolicy(
  { heads, ffnDim }: Shape,
  kind: SelectorKind,
  quality: number | undefined,
  { file, metadata }: Bundle,
): Policy {
  const point = quality === undefined ? null : pointFor(file, metadata.curve, quality);
  const { policy } = point ?? metadata;
  if (kind === "predicted") return policy;
  // Static and random have no logits to compare with a threshold: they get the mean set size that it had.
  const sized = (unit: UnitKind, units: number) =>
    policy[unit].map((layer, l) => {
      if (layer.kind === "dense") return layer;
      return densityPolicy(point?.densities[unit][l] ?? metadata.calibration[unit][l]!.density, units);
    });
  return { attention: policy.attention, heads: sized("heads", heads), neurons: sized("neurons", ffnDim) };
}

/** Which point of a bundle's curve a quality picks, and what is refused. */
import { describe, expect, it } from "vitest";
import type { Bundle } from "../../src/sparsity/bundle.ts";
import { choosePolicy } from "../../src/sparsity/choose-policy.ts";
import { cheapestWithin, pointFor } from "../../src/sparsity/curve.ts";
import { BundleError, UsageError } from "../../src/util/errors.ts";
import { tinyBundle, tinyBundleModel } from "../helpers/tiny-bundle.ts";

const { metadata } = tinyBundle();
const { curve } = metadata; // qualities 0.01 and 0.04, 90 and 70 bytes
const bundle = { file: "the/bundle", metadata } as Bundle;
const choose = (
  ...[kind, options]: [Parameters<typeof choosePolicy>[1], Parameters<typeof choosePolicy>[2]]
) => choosePolicy(tinyBundleModel, kind, options, async () => bundle);

describe("a quality", () => {
  it.each([
    [0.01, 0],
    [0.02, 0],
    [0.04, 1],
    [1, 1],
  ])("of %d picks point %d", async (quality, index) => {
    expect(pointFor("file", curve, quality)).toBe(curve[index]);
    expect(await choose("predicted", { quality })).toEqual(curve[index]!.policy);
  });

  it("picks the cheapest, whatever the order", () => {
    const other = { ...curve[0]!, quality: 0.02, bytesPerToken: 60 };
    for (const points of [
      [...curve, other],
      [other, ...curve],
    ])
      expect(cheapestWithin(points, 0.05)).toBe(other);
    expect(cheapestWithin(curve, 0.001)).toBeUndefined();
  });

  it("sizes selectors without logits by the point's own densities", async () => {
    for (const kind of ["static", "random"] as const)
      expect(await choose(kind, { quality: 0.04 })).toEqual({
        attention: "dense-kv",
        heads: [{ kind: "dense" }, { kind: "topK", k: 1 }],
        neurons: [
          { kind: "topK", k: 3 },
          { kind: "topK", k: 3 },
        ],
      });
  });

  it("left out leaves the bundle's policy", async () => {
    expect(await choose("predicted", {})).toBe(metadata.policy);
  });

  it("that no point has is refused, naming the points", async () => {
    const failed = choose("predicted", { quality: 0.005 });
    await expect(failed).rejects.toThrow(UsageError);
    await expect(failed).rejects.toThrow(/quality 0\.005.*the\/bundle.*1 %, 4 %/);
  });

  it("of a bundle without a curve is refused, with what to do", () => {
    expect(() => pointFor("the/bundle", [], 0.01)).toThrow(BundleError);
    expect(() => pointFor("the/bundle", [], 0.01)).toThrow(/the\/bundle.*0\.01.*--max-perplexity-increase/);
  });

  it.each([0, -0.01, 1.5, Number.NaN])("of %d is none", async (quality) => {
    await expect(choose("predicted", { quality })).rejects.toThrow(new RegExp(`quality is ${quality}`));
  });

  it.each([{ mlpDensity: 0.5 }, { headDensity: 0.5 }])("does not go with %o", async (density) => {
    await expect(choose("predicted", { quality: 0.04, ...density })).rejects.toThrow(UsageError);
  });

  it("says nothing to the oracle", async () => {
    await expect(choose("oracle", { quality: 0.04 })).rejects.toThrow(/oracle/);
  });
});

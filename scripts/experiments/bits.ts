/** Predictors of few bits a weight, among them fc1 itself. */
import { halfBytes } from "./forward.ts";
import { printTable } from "./markdown.ts";
import { type Baseline, curveHeader, curveRow, densitiesAt, pointHeader, pointRow } from "./report.ts";
import { curve, plansOf, type TrainedVariant, trainVariant, withLogits } from "./train-variant.ts";
import { bitBytes, fc1Parameters, throughBits } from "./variants.ts";
import type { Workbench } from "./workbench.ts";

export async function bits(bench: Workbench, baseline: Baseline) {
  const { settings, scales } = baseline;
  const rows = [curveRow(`rank ${settings.rank}, float16`, baseline.outcomes, baseline)];
  const points = [await pointRow(bench, baseline.trained)];
  const add = async (name: string, trained: TrainedVariant, bits: number) => {
    const layers: TrainedVariant["layers"][number][] = [];
    for (const made of trained.layers) {
      const parameters = bits === 16 ? made.parameters : throughBits(made.parameters, bits);
      layers.push(await withLogits(bench, { ...made, parameters }, trained.variant, settings.recall));
    }
    const bytesOf = bits === 16 ? halfBytes : bitBytes(bits);
    const rounded = { variant: { ...trained.variant, name }, layers };
    points.push(await pointRow(bench, rounded, bytesOf));
    const plansAt = (s: number) => plansOf(rounded, densitiesAt(baseline, s), "threshold", bytesOf);
    rows.push(curveRow(name, await curve(bench, scales, plansAt), baseline));
  };
  const { rank } = settings;
  const double = await trainVariant(bench, { name: "", rank: 2 * rank }, settings);
  await add(`rank ${rank}, 8 bits`, baseline.trained, 8);
  await add(`rank ${2 * rank}, float16`, double, 16);
  for (const few of [8, 4]) await add(`rank ${2 * rank}, ${few} bits`, double, few);
  const four = await trainVariant(bench, { name: "", rank: 4 * rank }, settings);
  await add(`rank ${4 * rank}, 4 bits`, four, 4);
  const whole: TrainedVariant = {
    variant: { name: "" },
    layers: await Promise.all(
      baseline.trained.layers.map(async (made) => ({
        ...made,
        parameters: await fc1Parameters(bench, made.layer),
        seconds: 0,
      })),
    ),
  };
  for (const few of [4, 3, 2]) await add(`fc1 itself, ${few} bits`, whole, few);
  printTable("Predictors of few bits", await pointHeader(bench), points);
  printTable("", curveHeader(baseline), rows);
}

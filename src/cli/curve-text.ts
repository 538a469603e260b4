/** A bundle's trade-off curve as a table, for `prepare` and `info`. */
import type { BundleMetadata } from "../sparsity/bundle.ts";
import type { CurvePoint } from "../sparsity/curve.ts";
import { count, megabytes, percent } from "./format.ts";
import { renderTable } from "./table.ts";

type Measured = Pick<CurvePoint, "bytesPerToken" | "mlpBytesPerToken" | "calibrated" | "reported">;

/** The point of the curve that runs when nothing else is asked for. */
export function pointInUse({ curve, policy }: BundleMetadata): CurvePoint | undefined {
  const chosen = JSON.stringify(policy);
  return curve.find((point) => JSON.stringify(point.policy) === chosen);
}

/** Empty where recall, not a budget, decided how much to compute. */
export function curveText(metadata: BundleMetadata, width: number): string {
  const { curve, search } = metadata;
  if (search === null) return "";
  const { dense, uniform, tokens, forwardTokens, maxPerplexityIncrease: budget } = search;
  const cells = ({ bytesPerToken, mlpBytesPerToken, calibrated, reported }: Measured) => [
    megabytes(bytesPerToken),
    percent(bytesPerToken / dense.bytesPerToken),
    percent(mlpBytesPerToken / dense.mlpBytesPerToken),
    percent(calibrated.perplexityIncrease, 2),
    percent(reported.perplexityIncrease, 2),
    reported.kl.toFixed(4),
  ];
  const inUse = pointInUse(metadata);
  const rows = curve.map((point) => {
    const marks = [
      ...(point === inUse ? ["in use"] : []),
      ...(point.policy.attention === "recover" ? ["keys and values recovered"] : []),
    ];
    return [percent(point.quality, 2), ...cells(point), marks.join(", ")];
  });
  if (uniform !== null)
    rows.push(["", ...cells(uniform), `${percent(uniform.density, 0)} of the neurons in every layer`]);
  const titles = ["quality", "read", "of dense", "of the MLP", "calibrated", "reported", "KL"];
  const columns = [...titles.map((title) => ({ title })), { title: "", align: "left" as const }];
  const on = `${count(tokens.calibrated)} tokens calibrate, ${count(tokens.reported)} others report`;
  return [
    `trade-off for a budget of ${percent(budget, 2)}: ${on}; ${count(forwardTokens)} tokens of forward passes\n`,
    renderTable(columns, rows, width),
  ].join("");
}

/** The ways to run one kind of unit in one layer that a search chooses among. */
import type { LayerPolicy } from "../sparsity/policy.ts";
import type { UnitKind } from "../sparsity/selector.ts";
import { type OperatingPoint, operatingPoint } from "./operating-point.ts";
import type { Prepared } from "./prepared-layer.ts";

/** Recalls that thresholds are tried at. */
const recalls = [0.995, 0.985, 0.97, 0.955, 0.94, 0.92, 0.9, 0.87, 0.84, 0.8, 0.75, 0.7, 0.6, 0.5];

/** Where to cut a predictor's logits for each recall; fewer where several recalls give the same cut. */
export function neuronLadder(logits: Float32Array, active: Uint8Array): OperatingPoint[] {
  const points = recalls.map((recall) => operatingPoint(logits, active, recall));
  return points.filter(({ threshold }, i) => threshold !== points[i - 1]?.threshold);
}

export interface Rung {
  readonly policy: LayerPolicy;
  readonly density: number;
  /** As measured on held-out rows; of heads it is not known before a trial, and 1 until then. */
  readonly recall: number;
  readonly precision: number;
}

export interface Ladder {
  readonly unit: UnitKind;
  readonly layer: number;
  /** Dense first, then ever sparser. */
  readonly rungs: readonly Rung[];
}

export const denseRung: Rung = { policy: { kind: "dense" }, density: 1, recall: 1, precision: 1 };

/** One ladder for each kind of unit in each layer; only the dense rung where nothing can be predicted. */
export function laddersOf(prepared: Prepared): Ladder[] {
  const neurons = prepared.neurons.map(({ ladder }, layer): Ladder => {
    const rungs = ladder.map(({ threshold, density, recall, precision }): Rung => {
      return { policy: { kind: "threshold", threshold }, density, recall, precision };
    });
    return { unit: "neurons", layer, rungs: [denseRung, ...rungs] };
  });
  const heads = prepared.heads.map(({ parameters, units }, layer): Ladder => {
    const sparser = parameters === null ? 0 : units - 1;
    const rungs = Array.from({ length: sparser }, (_, i): Rung => {
      const k = units - 1 - i;
      return { policy: { kind: "topK", k }, density: k / units, recall: 1, precision: 1 };
    });
    return { unit: "heads", layer, rungs: [denseRung, ...rungs] };
  });
  return [...neurons, ...heads];
}

import type { BundleMetadata } from "../sparsity/bundle.ts";
import type { PrepareStage } from "./prepare-options.ts";
import type { Prepared } from "./prepared-layer.ts";

/** What calibration adds to a bundle, whichever way it went. */
export type Decided = Pick<BundleMetadata, "policy" | "calibration" | "curve" | "search">;

export interface Decision extends Decided {
  /** With the predictors that were chosen, where there were several to choose from. */
  readonly prepared: Prepared;
}

export type Progress = (stage: PrepareStage, done: number, total: number) => void;

import type { BundleMetadata } from "../sparsity/bundle.ts";
import type { PrepareStage } from "./prepare-options.ts";

/** What calibration adds to a bundle, whichever way it went. */
export type Decided = Pick<BundleMetadata, "policy" | "calibration" | "curve" | "search">;

export type Progress = (stage: PrepareStage, done: number, total: number) => void;

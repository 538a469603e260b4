import { allHeadNorms } from "./attention.ts";
import type { ComputeAll } from "./block.ts";
import { allActivations } from "./mlp.ts";

/** The expensive way to know what matters, for every architecture whose blocks are made of these layers. */
export const computeAll: ComputeAll = { headNorms: allHeadNorms, activations: allActivations };

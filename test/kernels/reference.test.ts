/** The reference backend against formulas in float64. */

import { openReference } from "../../src/kernels/reference/reference.ts";
import { conformance } from "./conformance.case.ts";
import { openFloat64 } from "./float64.ts";

conformance("reference", openReference, openFloat64, 1e-6, { isThreaded: false });

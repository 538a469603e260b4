/** The reference backend against formulas in float64. */
import { conformance } from "../../src/kernels/conformance.case.ts";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { openFloat64 } from "./float64.ts";

conformance("reference", openReference, openFloat64, 1e-6);

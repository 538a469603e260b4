import { openReference } from "../../src/kernels/reference/reference.ts";
import { goldenSuite } from "./golden.case.ts";

goldenSuite("the reference backend", openReference, 1e-4);

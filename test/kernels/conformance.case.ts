/**
 * What a backend has to show: every op agrees with the judge, and the guarantees of contract.ts hold bit for bit. A
 * scenario makes its tensors from a seed, so that running it on two backends, or twice, starts from the same numbers.
 */
import { describe } from "vitest";
import type { Kernels } from "../../src/kernels/contract.ts";
import { cacheOps } from "./conformance-cache.case.ts";
import { convertOp } from "./conformance-convert.case.ts";
import { exactness } from "./conformance-exact.case.ts";
import { guarantees } from "./conformance-guarantees.case.ts";
import { matrixOps } from "./conformance-matrix.case.ts";
import { recovery } from "./conformance-recover.case.ts";
import { screening } from "./conformance-screen.case.ts";
import { selectOps } from "./conformance-select.case.ts";
import { Subject, type SubjectOptions } from "./subject.ts";

/**
 * The suite. `open` takes a number of threads where a backend has them. `tolerance` is what sums in float32 may be off,
 * relative to the largest output.
 */
export function conformance(
  name: string,
  open: (threads?: number) => Kernels,
  judge: () => Kernels,
  tolerance: number,
  options: SubjectOptions = {},
): void {
  describe(`kernels: ${name}`, () => {
    const subject = new Subject(open, judge, tolerance, options);
    matrixOps(subject);
    if (options.isQuantized !== false) convertOp(subject);
    selectOps(subject);
    screening(subject);
    cacheOps(subject);
    recovery(subject);
    exactness(subject);
    guarantees(subject);
  });
}

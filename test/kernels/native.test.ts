/** Every instruction set of the native backend against the reference backend. */
import { describe, it } from "vitest";
import { conformance } from "../../src/kernels/conformance.case.ts";
import {
  NativeUnavailableError,
  nativeInstructionSets,
  openNative,
} from "../../src/kernels/native/native.ts";
import { openReference } from "../../src/kernels/reference/reference.ts";

/** The sets to test, or why there are none. */
function available(): readonly ReturnType<typeof nativeInstructionSets>[number][] | string {
  try {
    return nativeInstructionSets();
  } catch (error) {
    if (error instanceof NativeUnavailableError) return error.message;
    throw error;
  }
}

const sets = available();
if (typeof sets === "string") describe.skip(`native kernels: ${sets}`, () => it("is skipped", () => {}));
else
  for (const instructionSet of sets)
    conformance(
      `native, ${instructionSet}`,
      (threads = 2) => openNative({ instructionSet, threads }),
      openReference,
      3e-6,
    );

import { NativeUnavailableError, nativeInstructionSets } from "../../src/kernels/native/native.ts";
import { type Backend, backends } from "../../src/kernels/open.ts";

function hasNative(): boolean {
  try {
    return nativeInstructionSets().length > 0;
  } catch (error) {
    if (error instanceof NativeUnavailableError) return false;
    throw error;
  }
}

/** The backends that this machine has, the fastest first. */
export const availableBackends: readonly Backend[] = hasNative() ? backends : ["reference"];
export const fastestBackend: Backend = availableBackends[0]!;

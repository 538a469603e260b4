/** Opens the native backend. */
import { availableParallelism } from "node:os";
import type { InstructionSet } from "./addon-types.ts";
import { loadAddon } from "./binding.ts";
import { CommandList } from "./command-list.ts";
import { NativeKernels } from "./kernels.ts";

export type { InstructionSet } from "./addon-types.ts";
export { NativeUnavailableError } from "./binding.ts";

export interface NativeOptions {
  /** Threads that compute, the calling one included: 1 to 256. Default: as many as the machine runs at once. */
  threads?: number;
  /** Default: the best that this machine can run. */
  instructionSet?: InstructionSet;
  /** Whether large tensors may lie in large pages, where the system has them; default true. */
  hugePages?: boolean;
}

/** The instruction sets that this machine can run, best first. */
export function nativeInstructionSets(): readonly InstructionSet[] {
  return loadAddon().instructionSets;
}

/** Throws `NativeUnavailableError` where there is no addon for this machine. */
export function openNative(options: NativeOptions = {}): NativeKernels {
  const addon = loadAddon();
  const threads = options.threads ?? Math.min(availableParallelism(), 256);
  if (!Number.isInteger(threads) || threads < 1 || threads > 256)
    throw new RangeError(`threads must be an integer from 1 to 256, is ${threads}`);
  const instructionSet = options.instructionSet ?? addon.instructionSets[0]!;
  if (!addon.instructionSets.includes(instructionSet))
    throw new RangeError(
      `this machine cannot run ${instructionSet}; it can run ${addon.instructionSets.join(", ")}`,
    );
  const list = new CommandList(addon, instructionSet, threads, options.hugePages ?? true);
  return new NativeKernels(list, instructionSet, threads);
}

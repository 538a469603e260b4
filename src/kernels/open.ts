/** Chooses a backend. The only file that knows them all; each is imported when it is asked for. */
import type { Kernels } from "./contract.ts";
import type { InstructionSet } from "./native/addon-types.ts";

export const backends = ["native", "reference"] as const;
export type Backend = (typeof backends)[number];

export interface OpenKernelsOptions {
  /** Default: native, or the reference backend where the addon is absent (said through `onNotice`). */
  backend?: Backend | undefined;
  /** Threads of the native backend; default: what the machine offers. */
  threads?: number | undefined;
  /** Instruction set of the native backend; default: the best the machine has. */
  instructionSet?: InstructionSet | undefined;
  /** Whether large tensors of the native backend may lie in large pages, where the system has them; default true. */
  hugePages?: boolean | undefined;
  onNotice?: ((sentence: string) => void) | undefined;
}

/** @throws NativeUnavailableError when the native backend is asked for by name and cannot be had */
export async function openKernels(options: OpenKernelsOptions = {}): Promise<Kernels> {
  const reference = async () => (await import("./reference/reference.ts")).openReference();
  if (options.backend === "reference") return reference();
  const { openNative, NativeUnavailableError } = await import("./native/native.ts");
  try {
    const { threads, instructionSet, hugePages } = options;
    return openNative({
      ...(threads !== undefined && { threads }),
      ...(instructionSet !== undefined && { instructionSet }),
      ...(hugePages !== undefined && { hugePages }),
    });
  } catch (error) {
    if (options.backend === "native" || !(error instanceof NativeUnavailableError)) throw error;
    options.onNotice?.(`${error.message} Using the reference backend, which is much slower.`);
    return reference();
  }
}

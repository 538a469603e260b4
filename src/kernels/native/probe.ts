/** The roof of every memory-bound kernel: how fast this machine reads, measured with the same threads. */
import type { NativeKernels } from "./kernels.ts";

export interface ReadProbe {
  /** Size of the buffer, allocated and freed inside; it should be far larger than the caches. */
  bytes?: number;
  seconds?: number;
}

/** GB/s (10⁹ bytes) that all threads of `kernels` read together. */
export function measureReadBandwidth(kernels: NativeKernels, options: ReadProbe = {}): number {
  return kernels.readBandwidth(options.bytes ?? 512 * 2 ** 20, options.seconds ?? 0.2) / 1e9;
}

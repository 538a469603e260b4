/** Watches what a backend's tensors take: which are alive, and how many bytes were asked for. */
import type { Kernels } from "../../src/kernels/contract.ts";
import { byteLength, type Tensor } from "../../src/tensor/tensor.ts";

export interface MemoryWatch {
  /** Tensors allocated since the watch began and not freed. */
  readonly live: ReadonlySet<Tensor>;
  /** Bytes allocated since the watch began, freed or not. */
  readonly bytes: number;
  end(): void;
}

export function watchMemory(kernels: Kernels): MemoryWatch {
  const { allocate, free } = kernels;
  const live = new Set<Tensor>();
  let bytes = 0;
  kernels.allocate = (dtype, shape) => {
    const tensor = allocate.call(kernels, dtype, shape);
    live.add(tensor);
    bytes += byteLength(tensor);
    return tensor;
  };
  kernels.free = (tensor) => {
    free.call(kernels, tensor);
    live.delete(tensor);
  };
  return {
    live,
    get bytes() {
      return bytes;
    },
    end: () => Object.assign(kernels, { allocate, free }),
  };
}

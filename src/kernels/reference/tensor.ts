/** Tensors of the reference backend: one typed array each. */
import { type Dtype, type HostArray, hostView, isQuantized } from "../../tensor/dtype.ts";
import { byteLength, elementCount, type Tensor } from "../../tensor/tensor.ts";

export interface ReferenceTensor extends Tensor {
  data: HostArray;
  freed: boolean;
}

export function allocateTensor(dtype: Dtype, shape: readonly number[]): ReferenceTensor {
  const tensor = { dtype, shape: [...shape] };
  const bytes = byteLength(tensor);
  const data = hostView(dtype, new ArrayBuffer(bytes), 0, isQuantized(dtype) ? bytes : elementCount(shape));
  return { ...tensor, data, freed: false };
}

/** The tensor's array; throws on a tensor of another backend and on one that was freed. */
export function dataOf(tensor: Tensor): HostArray {
  const own = tensor as ReferenceTensor;
  if (own.data === undefined) throw new TypeError("this tensor belongs to another backend");
  if (own.freed) throw new Error(`use of a freed tensor [${tensor.shape.join(", ")}]`);
  return own.data;
}

export const floatsOf = (tensor: Tensor): Float32Array => dataOf(tensor) as Float32Array;
export const intsOf = (tensor: Tensor): Int32Array => dataOf(tensor) as Int32Array;

/** A tensor of the native backend: a number that the addon knows, and a view of the same memory for JavaScript. */
import type { Dtype, HostArray } from "../../tensor/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";

export class NativeTensor implements Tensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Whose tensor this is; null once it has been freed. */
  owner: object | null;
  /** The addon's number for it. */
  readonly id: number;
  /** All elements, in memory that the addon keeps alive. */
  view: HostArray;

  constructor(owner: object, id: number, dtype: Dtype, shape: readonly number[], view: HostArray) {
    this.dtype = dtype;
    this.shape = shape;
    this.owner = owner;
    this.id = id;
    this.view = view;
  }
}

/** Throws unless `host` has the tensor's element type and fits into it at `offset`. */
export function checkTransfer(
  op: string,
  tensor: Tensor,
  view: HostArray,
  host: HostArray,
  offset: number,
): void {
  if (host.constructor !== view.constructor)
    throw new TypeError(`${op}: a tensor of ${tensor.dtype} takes ${view.constructor.name}`);
  if (!Number.isInteger(offset) || offset < 0 || offset + host.length > view.length)
    throw new RangeError(
      `${op}: elements ${offset} … ${offset + host.length - 1} are not within ${view.length}`,
    );
}

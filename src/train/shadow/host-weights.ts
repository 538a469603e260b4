/** Weights of a checkpoint as float32 on the host, for the backward pass, which inference has no use for. */
import { bytesPerElement, type FloatDtype, hostView, toFloat32 } from "../../tensor/dtype.ts";
import { elementCount } from "../../tensor/tensor.ts";
import type { Weights } from "../../weights/index.ts";

const floatDtypes: Readonly<Record<string, FloatDtype>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/**
 * Reads a tensor of floats, widened to float32.
 * @throws Error when there is none of the name
 */
export async function readMatrix(weights: Weights, name: string): Promise<Float32Array> {
  const info = weights.tensors.get(name);
  const dtype = info && floatDtypes[info.dtype];
  if (info === undefined || dtype === undefined) throw new Error(`there are no floats named ${name}`);
  const count = elementCount(info.shape);
  const bytes = new Uint8Array(count * bytesPerElement[dtype]);
  await weights.read(name, bytes);
  return toFloat32(dtype, hostView(dtype, bytes.buffer, 0, count));
}

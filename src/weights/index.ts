/** safetensors: bytes → named, checked tensors, and back. */
export { type ExpectedTensor, expectTensors } from "./expect.ts";
export { type Header, parseHeader } from "./header.ts";
export { elementBytes, type StoredDtype, type TensorDtype, type TensorInfo } from "./layout.ts";
export { type Prepared, preparedKey, preparedVersion } from "./prepared.ts";
export { openSafetensors, openWeights, type Weights } from "./weights.ts";
export {
  createSafetensors,
  dataAlignment,
  type PlannedTensor,
  type SafetensorsWriter,
  type TensorData,
  writeSafetensors,
} from "./write.ts";

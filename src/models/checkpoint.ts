/** What an architecture says of the tensors in a checkpoint. */
import type { WeightDtype } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

/**
 * What a tensor is to the model: `transposed` matrices have units as columns in a checkpoint and as rows in memory;
 * of a `table` single rows are read, or all of them once at the end.
 */
export type Role = "vector" | "matrix" | "transposed" | "table";

export interface CheckpointTensor {
  /** In a checkpoint as it was published. */
  readonly name: string;
  readonly role: Role;
  /** In memory. */
  readonly shape: readonly number[];
}

/** A checkpoint that was checked against its config. */
export interface CheckpointTensors {
  readonly tensors: readonly CheckpointTensor[];
  /** Reads one into memory, which the caller frees. */
  read(tensor: CheckpointTensor): Promise<Tensor>;
}

/** What the matrices of a model are in. */
export interface WeightFormat {
  readonly dtype: WeightDtype;
  /** The tables among them; default: the same, but int8 with int4. */
  readonly tables?: WeightDtype | undefined;
}

export interface ReadOptions {
  /** What matrices are converted to; default: they stay as they are stored. */
  readonly dtype?: WeightDtype | undefined;
  /** What tables are converted to; default: see WeightFormat. */
  readonly tables?: WeightDtype | undefined;
  /** Prepared matrices are used where they are in the file; default true. Otherwise they are read. */
  readonly isMapped?: boolean | undefined;
  readonly onTensor?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a transposed matrix is called in prepared weights, so that nobody takes it for the other way round. */
export const preparedName = ({ name, role }: CheckpointTensor): string =>
  role === "transposed" ? `${name}_transposed` : name;

/** Rounding to four bits costs tables the most and saves the least there, so unless asked they stop at eight: decision 11. */
export function dtypeFor(role: Role, { dtype, tables }: WeightFormat): WeightDtype {
  if (role === "vector") return "f32";
  return role === "table" ? (tables ?? (dtype === "int4" ? "int8" : dtype)) : dtype;
}

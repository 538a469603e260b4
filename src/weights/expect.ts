/** Do the weights hold what the model needs? */
import { WeightsError } from "../util/errors.ts";
import type { StoredDtype } from "./layout.ts";
import type { Weights } from "./weights.ts";

const mostListed = 10;

export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** The dtypes that would do. */
  readonly dtypes: readonly StoredDtype[];
}

/**
 * Checks that every expected tensor is there with the right shape and dtype. Tensors beyond these are left alone.
 * @throws one WeightsError that lists what is missing or different, the first ten and the number of the rest
 */
export function expectTensors(weights: Weights, expected: readonly ExpectedTensor[]): void {
  const faults = expected.map((tensor) => faultOf(weights, tensor)).filter((fault) => fault !== null);
  if (faults.length === 0) return;
  const listed = faults.slice(0, mostListed).map(({ text }) => text);
  if (faults.length > mostListed) listed.push(`and ${faults.length - mostListed} more`);
  throw new WeightsError({
    file: weights.files.join(", "),
    tensor: faults.length === 1 ? faults[0]!.name : undefined,
    reason: `${faults.length} of ${expected.length} tensors are not as the model needs them: ${listed.join("; ")}`,
    remedy: "Do the weights belong to this config.json?",
  });
}

function faultOf(weights: Weights, expected: ExpectedTensor): { name: string; text: string } | null {
  const { name, shape, dtypes } = expected;
  const found = weights.tensors.get(name);
  if (found === undefined) return { name, text: `${name} is missing` };
  const sameShape =
    found.shape.length === shape.length && found.shape.every((extent, i) => extent === shape[i]);
  if (!sameShape) return { name, text: `${name} has shape [${found.shape}] instead of [${shape}]` };
  if (!dtypes.includes(found.dtype)) {
    return { name, text: `${name} has dtype ${found.dtype} instead of ${dtypes.join(" or ")}` };
  }
  return null;
}

/**
 * Prepared weights: what `dejavu quantize` writes. Matrices are in one format and lie as the kernels read them, those
 * whose columns are units transposed, so that they can be used where they are. The header's metadata says so; matrices
 * that are quantized are stored as bytes, and the metadata says what they mean.
 */
import { z } from "zod";
import { type WeightDtype, weightDtypes } from "../tensor/dtype.ts";
import { quantizedLayout } from "../tensor/quantized.ts";
import { WeightsError } from "../util/errors.ts";
import type { Header } from "./header.ts";
import type { TensorInfo } from "./layout.ts";

/** The key of `Prepared` in the header's metadata. */
export const preparedKey = "dejavu-weights";
export const preparedVersion = 2;

const extent = z
  .int()
  .min(0)
  .max(2 ** 32);

const schema = z.strictObject({
  version: z.literal(preparedVersion),
  dtype: z.enum(weightDtypes),
  tables: z.enum(weightDtypes).optional(),
  source: z.string().regex(/^[0-9a-f]{64}$/),
  quantized: z.record(
    z.string(),
    z.strictObject({ dtype: z.enum(["int8", "int4"]), shape: z.tuple([extent, extent]) }),
  ),
});

export interface Prepared {
  readonly version: typeof preparedVersion;
  /** What the matrices were asked to be in. */
  readonly dtype: WeightDtype;
  /** What the tables among them were asked to be in, if anything was said of them. */
  readonly tables?: WeightDtype | undefined;
  /** Fingerprint of the weights that these were made from. */
  readonly source: string;
  /** Of the file's tensors those that are quantized matrices: [rows, columns]. */
  readonly quantized: Readonly<
    Record<string, { readonly dtype: "int8" | "int4"; readonly shape: [number, number] }>
  >;
}

/** Reads what the metadata says; null for weights as they were published. */
function parsePrepared({ metadata }: Header, file: string): Prepared | null {
  const text = metadata.get(preparedKey);
  if (text === undefined) return null;
  const fail = (reason: string, cause?: unknown): never => {
    throw new WeightsError({ file, reason: `metadata "${preparedKey}": ${reason}`, remedy }, { cause });
  };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return fail("not JSON", cause);
  }
  const version = (json as { version?: unknown } | null)?.version;
  if (version !== preparedVersion)
    return fail(`version ${JSON.stringify(version)}, this program reads ${preparedVersion}`);
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  return fail(`${issue.path.join(".")}: ${issue.message}`);
}

const remedy = "Make the weights anew with: dejavu quantize";

/**
 * The header as it is meant: quantized matrices with their own dtype and shape instead of bytes.
 * @throws WeightsError when the metadata is broken or says of a tensor what its bytes cannot be
 */
export function understandHeader(header: Header, file: string): Header & { prepared: Prepared | null } {
  const prepared = parsePrepared(header, file);
  if (prepared === null) return { ...header, prepared };
  const tensors = new Map<string, TensorInfo>(header.tensors);
  for (const [tensor, { dtype, shape }] of Object.entries(prepared.quantized)) {
    const stored = header.tensors.get(tensor);
    const fail = (reason: string): never => {
      throw new WeightsError({ file, tensor, reason, remedy });
    };
    if (stored === undefined) return fail("the metadata calls it quantized, but it is not in the file");
    if (stored.dtype !== "U8" || stored.shape.length !== 1)
      return fail(`it is ${stored.dtype} [${stored.shape}], quantized matrices are stored as one row of U8`);
    const { bytes } = quantizedLayout(dtype, ...shape);
    if (bytes !== stored.end - stored.begin)
      return fail(`${dtype} [${shape}] takes ${bytes} bytes, it has ${stored.end - stored.begin}`);
    tensors.set(tensor, { ...stored, dtype, shape });
  }
  return { ...header, tensors, prepared };
}

/**
 * Folder on disk → the same model in another format, as a folder. Matrices lie in it as the kernels read them, so that
 * they can be used where they are, without a pass over them at the start.
 */
import { copyFile, readdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Kernels } from "./kernels/contract.ts";
import { type OpenKernelsOptions, openKernels } from "./kernels/open.ts";
import { type Config, checkPreparation, quantMethod, readConfig } from "./models/architectures.ts";
import {
  type CheckpointTensor,
  type CheckpointTensors,
  dtypeFor,
  preparedName,
  type WeightFormat,
} from "./models/checkpoint.ts";
import { bundleFileName } from "./sparsity/bundle.ts";
import { hostView, isQuantized, type WeightDtype } from "./tensor/dtype.ts";
import { byteLength, elementCount, type Tensor } from "./tensor/tensor.ts";
import { openTokenizer } from "./text/tokenizer.ts";
import { UsageError } from "./util/errors.ts";
import { namesIn } from "./util/make-folder.ts";
import {
  createSafetensors,
  dataAlignment,
  openWeights,
  type PlannedTensor,
  type Prepared,
  preparedKey,
  preparedVersion,
  type SafetensorsWriter,
  type Weights,
} from "./weights/index.ts";
import { writeFolder } from "./weights/staged-folder.ts";

export interface QuantizeOptions extends OpenKernelsOptions, WeightFormat {
  /** The folder to make. */
  out: string;
  /** A bundle to put into the folder; default: the model's own, if there is one. */
  bundle?: string | undefined;
  /** Replaces a folder there, if it was made by `quantize` or is empty. */
  force?: boolean | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface Quantized {
  readonly out: string;
  readonly dtype: WeightDtype;
  readonly tables: WeightDtype;
  readonly parameters: number;
  /** Of all weights, before and after. */
  readonly bytes: { readonly source: number; readonly out: number };
}

/** Bytes of a tensor that go to the disk at once. */
const pieceBytes = 16 * 2 ** 20;

/** Beside config and weights a model has small files of text: its tokenizer, settings, a sample. */
const isCompanion = (name: string): boolean =>
  /\.(json|txt|model)$/.test(name) && !/^(config|.*\.index)\.json$/.test(name);

async function checkPlace(out: string, force: boolean): Promise<void> {
  const names = await namesIn(out, (reason) => `--out ${out}: ${reason}`);
  if (names === null) return;
  if (!force) throw new UsageError(`--out ${out}: exists; name another folder, or replace it with --force`);
  const isOurs = await readConfig(join(out, "config.json")).then(
    ({ prepared }) => prepared !== null,
    () => false,
  );
  if (names.length > 0 && !isOurs)
    throw new UsageError(`--out ${out}: was not made by dejavu quantize, so --force does not replace it`);
}

const stored = { f32: "F32", f16: "F16", bf16: "BF16" } as const;

/** What the file will hold, and what its metadata says. */
function planFile(tensors: readonly CheckpointTensor[], format: WeightFormat, source: string) {
  const quantized: Record<string, Prepared["quantized"][string]> = {};
  const plan = tensors.map((tensor): PlannedTensor => {
    const { role, shape } = tensor;
    const [name, kind] = [preparedName(tensor), dtypeFor(role, format)];
    if (!isQuantized(kind)) return { name, dtype: stored[kind], shape };
    quantized[name] = { dtype: kind, shape: shape as [number, number] };
    return { name, dtype: "U8", shape: [byteLength({ dtype: kind, shape })] };
  });
  const { dtype, tables } = format;
  const prepared: Prepared = {
    version: preparedVersion,
    dtype,
    ...(tables && { tables }),
    source,
    quantized,
  };
  return { plan, metadata: { format: "pt", [preparedKey]: JSON.stringify(prepared) } };
}

/** Brings a tensor from the kernels' memory to the file, piece by piece. */
async function writeTensor(
  kernels: Kernels,
  tensor: Tensor,
  writer: SafetensorsWriter,
  name: string,
): Promise<void> {
  const bytes = byteLength(tensor);
  const count = isQuantized(tensor.dtype) ? bytes : elementCount(tensor.shape);
  const size = bytes / count; // of an element
  const piece = new ArrayBuffer(Math.min(pieceBytes, bytes));
  for (let at = 0; at < count; ) {
    const taken = Math.min(piece.byteLength / size, count - at);
    await kernels.read(tensor, hostView(tensor.dtype, piece, 0, taken), at);
    await writer.write(name, at * size, new Uint8Array(piece, 0, taken * size));
    at += taken;
  }
}

/** Writes all tensors of a checkpoint as prepared weights. */
export async function writePreparedWeights(
  kernels: Kernels,
  checkpoint: CheckpointTensors,
  source: string,
  file: string,
  options: Pick<QuantizeOptions, "dtype" | "tables" | "onProgress" | "signal">,
): Promise<void> {
  const { tensors } = checkpoint;
  const { onProgress, signal } = options;
  const { plan, metadata } = planFile(tensors, options, source);
  const writer = await createSafetensors(file, plan, metadata, { alignment: dataAlignment });
  try {
    for (const [index, tensor] of tensors.entries()) {
      signal?.throwIfAborted();
      const made = await checkpoint.read(tensor);
      await writeTensor(kernels, made, writer, preparedName(tensor));
      kernels.free(made);
      onProgress?.(index + 1, tensors.length);
    }
    await writer.finish();
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** The config with a remark, and copies of what else the model consists of. */
async function writeCompanions(
  folder: string,
  { json }: Config,
  target: string,
  { dtype, bundle }: QuantizeOptions,
): Promise<void> {
  const declared = { quant_method: quantMethod, version: preparedVersion, dtype };
  const text = JSON.stringify({ ...json, quantization_config: declared }, null, 2);
  await writeFile(join(target, "config.json"), `${text}\n`);
  const names = await readdir(folder);
  for (const name of names.filter(isCompanion)) await copyFile(join(folder, name), join(target, name));
  const from = bundle ?? (names.includes(bundleFileName) ? join(folder, bundleFileName) : null);
  if (from !== null) await copyFile(from, join(target, bundleFileName));
}

/** Bytes of the tensors named, as they are in the files. */
function storedBytes(weights: Weights, tensors: readonly CheckpointTensor[]): number {
  const sizes = tensors.map(({ name }) => weights.tensors.get(name)!);
  return sizes.reduce((sum, { begin, end }) => sum + end - begin, 0);
}

/**
 * Writes the model in `folder` in another format, with its tokenizer and bundle, whole or not at all.
 * @throws UsageError when `out` exists or the weights are prepared already; ConfigError, WeightsError, TokenizerError;
 * the signal's reason
 */
export async function quantize(folder: string, options: QuantizeOptions): Promise<Quantized> {
  const { dtype, tables, out, force = false, signal } = options;
  await checkPlace(out, force);
  const config = await readConfig(join(folder, "config.json"));
  await openTokenizer(folder); // a folder that could not be used afterwards is not made
  const weights = await openWeights(folder);
  try {
    checkPreparation(config, weights);
    if (weights.prepared !== null)
      throw new UsageError(
        `${folder}: is in ${weights.prepared.dtype} already, made by dejavu quantize; start from the model as it was published`,
      );
    const kernels = await openKernels(options);
    try {
      const { architecture, json, file } = config;
      const checkpoint = architecture.open(kernels, weights, json, file, { dtype, tables, signal });
      await writeFolder(out, async (temporary) => {
        await writePreparedWeights(
          kernels,
          checkpoint,
          await weights.fingerprint(),
          join(temporary, "model.safetensors"),
          options,
        );
        await writeCompanions(folder, config, temporary, options);
      });
      const { tensors } = checkpoint;
      const outBytes = tensors.map(({ role, shape }) =>
        byteLength({ dtype: dtypeFor(role, options), shape }),
      );
      return {
        out: resolve(out),
        dtype,
        tables: dtypeFor("table", options),
        parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
        bytes: {
          source: storedBytes(weights, tensors),
          out: outBytes.reduce((sum, bytes) => sum + bytes, 0),
        },
      };
    } finally {
      kernels.dispose();
    }
  } finally {
    await weights.close();
  }
}

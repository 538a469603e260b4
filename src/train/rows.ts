/** Reads a layer's captured rows and splits them by document into training and held-out rows. */
import type { PredictorSource, UnitKind } from "../sparsity/selector.ts";
import { WeightsError } from "../util/errors.ts";
import { openSafetensors, type Weights } from "../weights/index.ts";
import { captureMetadata, captureMetadataKey, layerFile } from "./capture.ts";

/** One problem of predicting units from a source: rows of inputs and of targets, the held-out ones apart. */
export interface Rows {
  readonly width: number; // hidden_size
  readonly units: number;
  readonly inputs: Uint16Array; // binary16 bits [rows, width]
  /** What the unit was worth: 1 for a neuron above zero, else 0; the output norm of a head, or its importance. */
  value(row: number, unit: number): number;
  /** Row numbers. Documents whose number is 19 modulo 20 are held out: 95 to 5, by document. Some rows may be in neither. */
  readonly train: Int32Array;
  readonly heldOut: Int32Array;
}

export const heldOutEvery = 20;
export const isHeldOut = (document: number): boolean => document % heldOutEvery === heldOutEvery - 1;

/** The value, or undefined where there is no JSON. */
function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}

async function open(folder: string, layer: number, modelFingerprint: string): Promise<Weights> {
  const file = layerFile(folder, layer);
  const weights = await openSafetensors(file);
  const parsed = captureMetadata.safeParse(parseJson(weights.metadata.get(captureMetadataKey)));
  const reason = !parsed.success
    ? "is not a capture that this program can read"
    : parsed.data.modelFingerprint !== modelFingerprint
      ? `was captured from other weights (${parsed.data.modelFingerprint.slice(0, 12)}…)`
      : parsed.data.layer !== layer
        ? `is of layer ${parsed.data.layer}, not ${layer}`
        : null;
  if (reason === null) return weights;
  await weights.close();
  throw new WeightsError({ file, reason, remedy: "Capture anew." });
}

async function readBytes(weights: Weights, name: string): Promise<Uint8Array> {
  const { begin, end } = weights.tensors.get(name)!;
  const bytes = new Uint8Array(end - begin);
  await weights.read(name, bytes);
  return bytes;
}

/**
 * Loads what a predictor of `unit` in `layer` learns from.
 * @param units number of heads or neurons
 * @param mayLook which of the held-out documents count; the rows of others are left out altogether
 */
export async function loadRows(
  folder: string,
  layer: number,
  unit: UnitKind,
  units: number,
  source: PredictorSource,
  modelFingerprint: string,
  mayLook: (document: number) => boolean = () => true,
): Promise<Rows> {
  const labels = await open(folder, layer, modelFingerprint);
  const inputLayer = source === "first-block" ? 0 : source === "previous-block" ? layer - 1 : layer;
  let inputFile = labels;
  try {
    if (inputLayer !== layer) inputFile = await open(folder, inputLayer, modelFingerprint);
    const isOfMlp = source === "mlp-input" || source === "first-block";
    const inputName = isOfMlp ? "mlp_input" : "attention_input";
    const width = inputFile.tensors.get(inputName)!.shape[1]!;
    const inputs = new Uint16Array((await readBytes(inputFile, inputName)).buffer);
    const document = new Int32Array((await readBytes(labels, "document")).buffer);
    const split = { train: [] as number[], heldOut: [] as number[] };
    for (const [row, number] of document.entries())
      if (!isHeldOut(number)) split.train.push(row);
      else if (mayLook(number)) split.heldOut.push(row);
    const shared = {
      width,
      inputs,
      train: Int32Array.from(split.train),
      heldOut: Int32Array.from(split.heldOut),
    };
    if (unit === "heads") {
      const norms = new Float32Array((await readBytes(labels, "head_norm")).buffer);
      return { ...shared, units, value: (row, u) => norms[row * units + u]! };
    }
    const bits = await readBytes(labels, "active");
    const stride = labels.tensors.get("active")!.shape[1]!;
    return { ...shared, units, value: (row, u) => (bits[row * stride + (u >> 3)]! >> (u & 7)) & 1 };
  } finally {
    await labels.close();
    if (inputFile !== labels) await inputFile.close();
  }
}

/**
 * Capture: runs documents densely and writes, per layer, the tensors that predictors may read and the true sets.
 * One safetensors file per layer; its metadata says for which weights and texts, and what a row is.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type Corpus, countIds } from "../eval/documents.ts";
import type { Engine } from "../load.ts";
import { blockRows, feed } from "../models/feed.ts";
import { numberToF16 } from "../tensor/dtype.ts";
import { makeFolder } from "../util/make-folder.ts";
import { createSafetensors, type SafetensorsWriter } from "../weights/index.ts";
import { Recorder } from "./recorder.ts";

export const captureMetadataKey = "dejavu-capture";
export const captureVersion = 2;

export const captureMetadata = z.strictObject({
  version: z.literal(captureVersion),
  modelFingerprint: z.string(),
  layer: z.int(),
  rows: z.int(),
  row: z.string(),
  texts: z.array(z.strictObject({ name: z.string(), sha256: z.string() })),
});

/** What a row is, stated in every file. */
const rowMeaning =
  "one token of a dense run. attention_input, mlp_input: what q, k, v and fc1 read (after the layer norm in a pre-norm model); " +
  "head_norm: L2 norm of each head's output before the output projection; active: bit i%8 of byte i/8 is set if neuron i was above zero after the ReLU; " +
  "document: number of the document";

export const layerFile = (folder: string, layer: number): string =>
  join(folder, `layer-${String(layer).padStart(3, "0")}.safetensors`);

/** Packs activations [rows, n] into bits [rows, ceil(n / 8)], lowest bit first. */
function packActive(activations: Float32Array, rows: number, n: number): Uint8Array {
  const stride = Math.ceil(n / 8);
  const bits = new Uint8Array(rows * stride);
  for (let r = 0; r < rows; r++)
    for (let i = 0; i < n; i++) if (activations[r * n + i]! > 0) bits[r * stride + (i >> 3)]! |= 1 << (i & 7);
  return bits;
}

const asBytes = (array: Uint16Array | Float32Array | Int32Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** Writes the rows of one block of one layer at row `start` of the layer's file. */
class LayerSink {
  readonly #writer: SafetensorsWriter;
  readonly #widths: { d: number; n: number; heads: number };

  constructor(writer: SafetensorsWriter, widths: { d: number; n: number; heads: number }) {
    this.#writer = writer;
    this.#widths = widths;
  }

  async write(
    recorder: Recorder,
    layer: number,
    start: number,
    rows: number,
    document: number,
  ): Promise<void> {
    const { d, n, heads } = this.#widths;
    const read = async (kind: Parameters<Recorder["read"]>[0], width: number) => {
      const values = new Float32Array(rows * width);
      await recorder.read(kind, layer, values);
      return values;
    };
    const half = async (kind: "attentionInput" | "mlpInput") =>
      asBytes(Uint16Array.from(await read(kind, d), numberToF16));
    const stride = Math.ceil(n / 8);
    await this.#writer.write("attention_input", start * d * 2, await half("attentionInput"));
    await this.#writer.write("mlp_input", start * d * 2, await half("mlpInput"));
    await this.#writer.write("head_norm", start * heads * 4, asBytes(await read("headNorm", heads)));
    await this.#writer.write("active", start * stride, packActive(await read("activation", n), rows, n));
    await this.#writer.write("document", start * 4, asBytes(new Int32Array(rows).fill(document)));
  }
}

/**
 * Runs the corpus through the model and writes one file per layer into `folder`.
 * The files appear under their names only when all rows are in them; on failure or abort none is left.
 * @returns the number of rows in each file
 */
export async function capture(
  engine: Engine,
  corpus: Corpus,
  folder: string,
  onProgress: (rows: number, total: number) => void,
  signal?: AbortSignal,
): Promise<number> {
  const { model, kernels } = engine;
  const { layers, hiddenSize: d, ffnDim: n, heads } = model.shape;
  const rows = countIds(corpus.documents);
  const { fingerprint } = await engine.identity();
  await makeFolder(folder);
  const writers: SafetensorsWriter[] = [];
  const recorder = new Recorder(kernels, model.shape, blockRows);
  try {
    for (let layer = 0; layer < layers; layer++) {
      const metadata = {
        version: captureVersion,
        modelFingerprint: fingerprint,
        layer,
        rows,
        row: rowMeaning,
        texts: corpus.sources,
      };
      writers.push(
        await createSafetensors(
          layerFile(folder, layer),
          [
            { name: "attention_input", dtype: "F16", shape: [rows, d] },
            { name: "mlp_input", dtype: "F16", shape: [rows, d] },
            { name: "head_norm", dtype: "F32", shape: [rows, heads] },
            { name: "active", dtype: "U8", shape: [rows, Math.ceil(n / 8)] },
            { name: "document", dtype: "I32", shape: [rows] },
          ],
          { [captureMetadataKey]: JSON.stringify(captureMetadata.parse(metadata)) },
        ),
      );
    }
    const sinks = writers.map((writer) => new LayerSink(writer, { d, n, heads }));
    let written = 0;
    for (const [document, ids] of corpus.documents.entries()) {
      // What predictors learn from is recorded without the rounding of a smaller cache.
      const state = model.createState({ capacity: ids.length, maxRows: blockRows, cacheDtype: "f32" });
      try {
        const afterBlock = async (start: number, count: number): Promise<void> => {
          for (let layer = 0; layer < layers; layer++)
            await sinks[layer]!.write(recorder, layer, written + start, count, document);
        };
        await feed(model, state, ids, recorder, "none", { afterBlock, signal });
      } finally {
        state.dispose();
      }
      written += ids.length;
      onProgress(written, rows);
    }
    for (const writer of writers) await writer.finish();
    return rows;
  } catch (error) {
    for (const writer of writers) await writer.abandon();
    for (let layer = 0; layer < layers; layer++) await rm(layerFile(folder, layer), { force: true });
    throw error;
  } finally {
    recorder.dispose();
  }
}

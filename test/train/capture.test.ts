/** What a capture holds is what a naive float64 forward computes, and a capture of something else is refused. */
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Corpus, readCorpus } from "../../src/eval/documents.ts";
import { type Engine, load } from "../../src/load.ts";
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import { capture, captureMetadataKey, layerFile } from "../../src/train/capture.ts";
import { isHeldOut, loadRows } from "../../src/train/rows.ts";
import { WeightsError } from "../../src/util/errors.ts";
import { openSafetensors, writeSafetensors } from "../../src/weights/index.ts";
import { fastestBackend } from "../helpers/backends.ts";
import { float64SparseRun, type SparseRun } from "../helpers/float64-sparse-opt.ts";
import { maxDifference, storiesFolder } from "../helpers/golden.ts";
import { expectSame } from "../helpers/same.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { randomText, tinyVariant, writeTinyModel } from "../helpers/tiny-model.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const captured = join(folder, "captured");
const { hidden_size: d, ffn_dim: n, num_attention_heads: heads, num_hidden_layers: layers } = tinyVariant;
let engine: Engine;
let corpus: Corpus;
let runs: SparseRun[];
let fingerprint: string;

beforeAll(async () => {
  const tensors = await writeTinyModel(folder);
  engine = await load(folder, { backend: fastestBackend });
  fingerprint = (await engine.identity()).fingerprint;
  const text = join(folder, "text.txt");
  // One document is longer than a block of 64 rows.
  writeFileSync(text, `${randomText(22, 6)}<|endoftext|>${"zebra é ".repeat(9)}`);
  corpus = await readCorpus([text], engine.tokenizer, { maxLength: 80 });
  expect(Math.max(...corpus.documents.map(({ length }) => length))).toBeGreaterThan(64);
  runs = corpus.documents.map((ids) => float64SparseRun(tensors, tinyVariant, [...ids], () => null));
  await capture(engine, corpus, captured, () => {});
});
afterAll(() => engine.dispose());

const rowCount = () => corpus.documents.reduce((sum, ids) => sum + ids.length, 0);

describe("captured rows", () => {
  it.each([
    ["mlp-input", 1, 1],
    ["attention-input", 2, 2],
    ["previous-block", 2, 1],
  ] as const)("of %s for layer %i are what layer %i read", async (source, layer, from) => {
    const rows = await loadRows(captured, layer, "neurons", n, source, fingerprint);
    expect([rows.width, rows.units, rows.inputs.length]).toEqual([d, n, rowCount() * d]);
    const kind = source === "mlp-input" ? "mlp" : "attention";
    const expected = runs.flatMap((run) => run.inputs[kind][from]!).flat();
    const relative = Array.from(rows.inputs, (bits, i) => {
      return Math.abs(f16ToNumber(bits) - expected[i]!) / Math.max(0.01, Math.abs(expected[i]!));
    });
    expect(Math.max(...relative)).toBeLessThan(2 ** -10);
  });

  it("say which neurons were above zero", async () => {
    for (let layer = 0; layer < layers; layer++) {
      const rows = await loadRows(captured, layer, "neurons", n, "mlp-input", fingerprint);
      const expected = runs.flatMap((run) => run.worth.neurons[layer]!);
      let wrong = 0;
      for (const [row, worth] of expected.entries())
        for (let i = 0; i < n; i++) if (rows.value(row, i) !== (worth[i]! > 0 ? 1 : 0)) wrong += 1;
      expect(wrong, "only activations within rounding of zero may differ").toBeLessThan(3);
    }
  });

  it("say how large each head's output was", async () => {
    for (let layer = 0; layer < layers; layer++) {
      const rows = await loadRows(captured, layer, "heads", heads, "attention-input", fingerprint);
      const expected = runs.flatMap((run) => run.worth.heads[layer]!);
      const norms = expected.flatMap((_, row) =>
        Array.from({ length: heads }, (__, h) => rows.value(row, h)),
      );
      expect(maxDifference(norms, expected.flat())).toBeLessThan(1e-5);
    }
  });

  it("are split by document: every twentieth is held out, none is on both sides", async () => {
    const { train, heldOut } = await loadRows(captured, 0, "heads", heads, "attention-input", fingerprint);
    const documentOf = corpus.documents.flatMap((ids, number) => Array<number>(ids.length).fill(number));
    expectSame(
      [...train, ...heldOut].sort((a, b) => a - b),
      documentOf.map((_, row) => row),
    );
    expect(new Set(Array.from(heldOut, (row) => documentOf[row]))).toEqual(new Set([19]));
    expect(Array.from(train, (row) => documentOf[row]!).some(isHeldOut)).toBe(false);
  });

  it("name the weights, the texts and what a row is", async () => {
    const weights = await openSafetensors(layerFile(captured, 1));
    const metadata = JSON.parse(weights.metadata.get(captureMetadataKey)!);
    expect(metadata).toMatchObject({
      modelFingerprint: fingerprint,
      layer: 1,
      rows: rowCount(),
      texts: corpus.sources,
    });
    expect(metadata.row).toContain("mlp_input");
    await weights.close();
  });
});

describe("a capture is refused", () => {
  const refused = async (at: string, layer: number, sha: string, reason: RegExp) => {
    const failed = loadRows(at, layer, "neurons", n, "mlp-input", sha);
    await expect(failed).rejects.toThrow(WeightsError);
    await expect(failed).rejects.toThrow(reason);
  };

  it("that comes from other weights", () => refused(captured, 0, "f".repeat(64), /other weights/));

  it("that is of another layer", async () => {
    const at = join(folder, "captured", "renamed");
    await capture(engine, corpus, at, () => {});
    copyFileSync(layerFile(at, 2), layerFile(at, 0));
    await refused(at, 0, fingerprint, /of layer 2, not 0/);
  });

  it("that is missing", () => refused(captured, 9, fingerprint, /no such file/));

  it("that lacks the block before", async () => {
    const at = temporaryPath("lone");
    copyFileSync(layerFile(captured, 1), layerFile(at, 1));
    const failed = loadRows(at, 1, "neurons", n, "previous-block", fingerprint);
    await expect(failed).rejects.toThrow(layerFile(at, 0));
  });

  it("that is none", async () => {
    const at = temporaryPath("none");
    copyFileSync(join(storiesFolder, "model.safetensors"), layerFile(at, 0));
    await refused(at, 0, fingerprint, /not a capture/);
  });

  it.each(["{", "7", "{}"])("whose metadata are %s", async (text) => {
    const at = temporaryPath(`text ${text.length}${text.charCodeAt(0)}`);
    await writeSafetensors(layerFile(at, 0), [], { [captureMetadataKey]: text });
    await refused(at, 0, fingerprint, /not a capture/);
  });

  function temporaryPath(name: string): string {
    const at = join(folder, name);
    mkdirSync(at);
    return at;
  }
});

describe("an aborted capture", () => {
  it("leaves no file and no memory behind", async () => {
    const at = join(folder, "aborted");
    const controller = new AbortController();
    const reason = new Error("enough");
    const memory = watchMemory(engine.kernels);
    const stop = (rows: number) => rows > 50 && controller.abort(reason);
    await expect(capture(engine, corpus, at, stop, controller.signal)).rejects.toBe(reason);
    expect(readdirSync(at)).toEqual([]);
    expect(memory.live.size).toBe(0);
    memory.end();
  });
});

import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Kernels } from "../../src/kernels/contract.ts";
import { openKernels } from "../../src/kernels/open.ts";
import { optShape } from "../../src/models/opt-shapes.ts";
import { quantize } from "../../src/quantize.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { openSyntheticFolder } from "../../src/synthetic-folder.ts";
import { makeWorkplace, type Workplace } from "../cli/tools.ts";

const small = {
  ...optShape("opt-125m", 2),
  ...{ hidden_size: 32, word_embed_proj_dim: 32, ffn_dim: 64, num_attention_heads: 2 },
  ...{ vocab_size: 100, max_position_embeddings: 16 },
};
let place: Workplace;
let kernels: Kernels;
let root: string;
beforeAll(async () => {
  place = await makeWorkplace();
  root = mkdtempSync(join(tmpdir(), "dejavu-test-"));
  kernels = await openKernels({ threads: 1, onNotice: () => {} });
});
afterAll(() => {
  kernels.dispose();
  place.remove();
  rmSync(root, { recursive: true });
});

const open = (folder: string, options = {}, config = small) =>
  openSyntheticFolder(kernels, folder, config, { dtype: "int4", ...options });

async function logits(folder: string, isMapped: boolean): Promise<Float32Array> {
  const model = await open(folder, { isMapped });
  const state = model.createState({ capacity: 4, maxRows: 4 });
  model.forward(state, Int32Array.of(5, 7, 1), denseSelector, "last");
  const into = new Float32Array(100);
  await kernels.read(state.logits, into);
  return into;
}

describe("random weights in a folder", () => {
  it("are written once, into a folder that is not there or is empty", async () => {
    const folder = join(root, "once");
    mkdirSync(folder);
    let written = 0;
    const onProgress = () => void written++;
    await open(folder, { onProgress });
    expect(readdirSync(folder).sort()).toEqual(["config.json", "model.safetensors"]);
    expect(written).toBeGreaterThan(10);
    const { mtimeMs } = statSync(join(folder, "model.safetensors"));
    written = 0;
    await open(folder, { onProgress });
    expect(written).toBe(0);
    expect(statSync(join(folder, "model.safetensors")).mtimeMs).toBe(mtimeMs);
  });

  it("are the same mapped and read", async () => {
    const folder = join(root, "same");
    const mapped = await logits(folder, true);
    expect(new Set(mapped).size).toBeGreaterThan(50);
    expect(await logits(folder, false)).toEqual(mapped);
  });

  it("are not looked for in a model, a file, or another format or shape", async () => {
    const folder = join(root, "format");
    await open(folder);
    await expect(open(folder, { dtype: "f16" })).rejects.toThrow(
      /format: holds int4 with tables in int8, not f16 with tables in f16/,
    );
    await expect(open(folder, { tables: "int4" })).rejects.toThrow(/not int4 with tables in int4/);
    await expect(open(folder, {}, { ...small, hidden_size: 64, word_embed_proj_dim: 64 })).rejects.toThrow(
      /shape/,
    );
    const file = join(root, "file");
    writeFileSync(file, "");
    await expect(open(file)).rejects.toThrow(/file: is a file; name a folder/);
    await expect(open(join(file, "below"))).rejects.toThrow(/cannot be made a folder|name a folder/);
    const { out } = await quantize(place.model, { dtype: "int4", out: join(root, "model") });
    for (const theirs of [place.model, out])
      await expect(open(theirs)).rejects.toThrow(/not random ones made for timing/);
  });

  it("leave nothing behind when the writing is broken off", async () => {
    const folder = join(root, "broken-off");
    const before = readdirSync(root);
    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error("enough"));
    await expect(open(folder, { onProgress, signal: controller.signal })).rejects.toThrow("enough");
    expect(readdirSync(root)).toEqual(before);
  });
});

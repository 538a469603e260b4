/** Tensors that are parts of files. */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Kernels } from "../../src/kernels/contract.ts";
import { openKernels } from "../../src/kernels/open.ts";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { load } from "../../src/load.ts";
import { loadOpt } from "../../src/models/opt.ts";
import { quantize } from "../../src/quantize.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { weightDtypes } from "../../src/tensor/dtype.ts";
import { openWeights, type Weights } from "../../src/weights/index.ts";
import { availableBackends } from "../helpers/backends.ts";
import { storiesFolder } from "../helpers/golden.ts";
import { expectSame } from "../helpers/same.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";

const folder = temporaryFolder();
const hasMaps = availableBackends.includes("native") && process.platform !== "win32";

it("the reference backend has none", () => {
  expect(openReference().map("f32", [1, 4], join(folder, "x"), 0)).toBeNull();
});

describe.runIf(hasMaps)("a tensor that is part of a file", () => {
  let kernels: Kernels;
  const file = join(folder, "numbers");
  beforeAll(async () => {
    kernels = await openKernels({ backend: "native", threads: 2 });
    writeFileSync(file, new Uint8Array(Float32Array.from({ length: 4096 }, (_, i) => i).buffer));
  });
  afterAll(() => kernels.dispose());
  const read = async (tensor: ReturnType<Kernels["allocate"]>, count: number) => {
    const into = new Float32Array(count);
    await kernels.read(tensor, into);
    return [...into];
  };

  it("holds the file's bytes from any place on, beyond the first page too", async () => {
    for (const offset of [0, 64, 4032, 4096, 8256]) {
      const tensor = kernels.map("f32", [2, 8], file, offset)!;
      expect(await read(tensor, 16)).toEqual(Array.from({ length: 16 }, (_, i) => offset / 4 + i));
      kernels.free(tensor);
    }
  });

  it("is used by ops like any other, and what is written to it stays in memory", async () => {
    const before = readFileSync(file);
    const [one, other] = [kernels.map("f32", [2, 8], file, 256)!, kernels.map("f32", [2, 8], file, 256)!];
    const sum = kernels.allocate("f32", [2, 8]);
    const ids = kernels.allocate("i32", [2]);
    kernels.write(ids, Int32Array.of(0, 1));
    kernels.addRows(sum, one, ids, 0, 2);
    kernels.copyRows(one, 0, sum, 1, 1);
    kernels.write(one, Float32Array.of(-1), 15);
    expect(await read(one, 16)).toEqual([72, 73, 74, 75, 76, 77, 78, 79, 72, 73, 74, 75, 76, 77, 78, -1]);
    expect((await read(other, 16))[0]).toBe(64);
    expectSame(readFileSync(file), before);
    for (const tensor of [one, other, sum, ids]) kernels.free(tensor);
    await expect(read(one, 1)).rejects.toThrow(/freed/);
  });

  it("keeps its numbers when the file's name is gone", async () => {
    const gone = join(folder, "gone");
    writeFileSync(gone, readFileSync(file));
    const tensor = kernels.map("f32", [1, 4096], gone, 0)!;
    rmSync(gone);
    expect((await read(tensor, 4096))[4095]).toBe(4095);
    kernels.free(tensor);
  });

  it("shares one mapping with the file's other parts, but not the bytes of another tensor", async () => {
    const own = join(folder, "parts");
    writeFileSync(own, readFileSync(file));
    const parts = [0, 4096, 8192, 4096].map((offset) => kernels.map("f32", [1, 1024], own, offset)!);
    for (const [i, part] of parts.entries()) kernels.write(part, Float32Array.of(-1 - i), 1023);
    const seen = await Promise.all(parts.map(async (part) => (await read(part, 1024)).slice(1022)));
    expect(seen).toEqual([
      [1022, -1],
      [2046, -2],
      [3070, -3],
      [2046, -4],
    ]);
    if (existsSync("/proc/self/maps")) {
      const lines = readFileSync("/proc/self/maps", "utf8").split("\n");
      expect(lines.filter((line) => line.endsWith(own))).toHaveLength(2);
    }
    for (const part of parts) kernels.free(part);
  });

  it("is mapped anew when the file is another one", async () => {
    const changing = join(folder, "changing");
    writeFileSync(changing, new Uint8Array(Float32Array.from({ length: 64 }, () => 1).buffer));
    const [first] = [kernels.map("f32", [1, 32], changing, 0)!];
    writeFileSync(join(folder, "next"), new Uint8Array(Float32Array.from({ length: 64 }, () => 2).buffer));
    renameSync(join(folder, "next"), changing);
    const second = kernels.map("f32", [1, 32], changing, 128)!;
    expect([(await read(first, 1))[0], (await read(second, 1))[0]]).toEqual([1, 2]);
    for (const part of [first, second]) kernels.free(part);
  });

  it("is refused where the file does not have the bytes, or has them askew", () => {
    const map = (shape: number[], path = file, offset = 0) => kernels.map("f32", shape, path, offset);
    expect(() => map([1, 4097])).toThrow(/numbers: it does not have the bytes/);
    expect(() => map([1, 4096], file, 64)).toThrow(/does not have the bytes/);
    expect(() => map([1, 16], file, 2 ** 40)).toThrow(/does not have the bytes/);
    expect(() => map([1, 4], join(folder, "nothing"))).toThrow(/nothing: No such file/);
    expect(() => map([1, 4], folder)).toThrow(/does not have the bytes/);
    for (const offset of [4, 63, -64, 0.5]) expect(() => map([1, 4], file, offset)).toThrow(RangeError);
    expect(() => map([-1, 4])).toThrow(RangeError);
  });
});

describe.runIf(hasMaps)("a prepared model", () => {
  it.each(weightDtypes)("in %s gives the same logits mapped and read", async (dtype) => {
    const { out } = await quantize(storiesFolder, { dtype, out: join(folder, dtype) });
    const logits = async (isMapped: boolean) => {
      using engine = await load(out, { isMapped, backend: "native", threads: 2 });
      const state = engine.model.createState({ capacity: 8, maxRows: 8 });
      engine.model.forward(state, Int32Array.from([2, 5, 70, 3]), denseSelector, "all");
      const into = new Float32Array(4 * engine.model.shape.vocabSize);
      await engine.kernels.read(state.logits, into);
      return into;
    };
    expectSame(await logits(true), await logits(false));
  });

  it("is opened without reading any weights, and does not outlive its file unnoticed", async () => {
    const { out } = await quantize(storiesFolder, { dtype: "int4", out: join(folder, "unread") });
    const kernels = await openKernels({ backend: "native", threads: 1 });
    const config = join(out, "config.json");
    const json = JSON.parse(readFileSync(config, "utf8"));
    const weights = await openWeights(out);
    const silent = (reading: string[]): Weights => ({
      ...{ files: weights.files, tensors: weights.tensors, metadata: weights.metadata },
      prepared: weights.prepared,
      read: async (name, into, offset) => {
        reading.push(name);
        await weights.read(name, into, offset);
      },
      fingerprint: () => weights.fingerprint(),
      close: () => weights.close(),
    });
    const [mapped, read]: [string[], string[]] = [[], []];
    await loadOpt(kernels, silent(mapped), json, config);
    expect(mapped).toEqual([]);
    await loadOpt(kernels, silent(read), json, config, { isMapped: false });
    expect(new Set(read).size).toBe(132);
    rmSync(join(out, "model.safetensors"));
    await expect(loadOpt(kernels, weights, json, config)).rejects.toThrow(
      /"model\..*cannot be mapped: .*No such file/,
    );
    await weights.close();
    kernels.dispose();
  });
});

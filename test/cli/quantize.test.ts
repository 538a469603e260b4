/** `dejavu quantize`: what it writes is the model that --dtype makes, or nothing at all. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { load } from "../../src/load.ts";
import { quantize } from "../../src/quantize.ts";
import { denseSelector } from "../../src/sparsity/dense.ts";
import { type WeightDtype, weightDtypes } from "../../src/tensor/dtype.ts";
import { ConfigError, UsageError, WeightsError } from "../../src/util/errors.ts";
import { openWeights, preparedKey } from "../../src/weights/index.ts";
import { expectSame } from "../helpers/same.ts";
import { dejavu, makeWorkplace, type Workplace } from "./tools.ts";

let place: Workplace;
beforeAll(async () => {
  place = await makeWorkplace();
});
afterAll(() => place.remove());

const at = (name: string): string => join(place.root, name);
const make = (dtype: WeightDtype, name: string, more = {}) =>
  quantize(place.model, { dtype, out: at(name), backend: "reference", ...more });

async function logits(folder: string, dtype?: WeightDtype, tables?: WeightDtype): Promise<Float32Array> {
  using engine = await load(folder, { dtype, tables, backend: "reference" });
  const state = engine.model.createState({ capacity: 8, maxRows: 8 });
  engine.model.forward(state, Int32Array.from([1, 5, 70, 3]), denseSelector, "all");
  const into = new Float32Array(4 * engine.model.shape.vocabSize);
  await engine.kernels.read(state.logits, into);
  return into;
}

describe("quantize", () => {
  it.each(weightDtypes)(
    "%s: gives the logits that loading with --dtype gives, bit for bit",
    async (dtype) => {
      const told: [number, number][] = [];
      const result = await make(dtype, `same-${dtype}`, {
        onProgress: (done: number, total: number) => void told.push([done, total]),
      });
      expectSame(await logits(result.out), await logits(place.model, dtype));
      expect(told.at(-1)![0]).toBe(told.at(-1)![1]);
      using engine = await load(result.out, { backend: "reference" });
      expect(engine.model.dtype).toBe(dtype);
      expect(engine.model.bytes).toBe(result.bytes.out);
      expect(engine.model.parameters).toBe(result.parameters);
      expect(await engine.identity()).toEqual(await (await load(place.model)).identity());
    },
  );

  it.each<[WeightDtype, WeightDtype]>([
    ["int4", "int4"],
    ["f16", "int8"],
    ["int8", "f32"],
  ])("%s with tables in %s: the same, and what is in the file stays so", async (dtype, tables) => {
    const { out, bytes } = await make(dtype, `tables-${dtype}-${tables}`, { tables });
    expectSame(await logits(out), await logits(place.model, dtype, tables));
    using engine = await load(out, { backend: "reference" });
    expect([engine.model.dtype, engine.model.tables]).toEqual([dtype, tables]);
    expect(engine.model.bytes).toBe(bytes.out);
  });

  it("copies what else the model consists of, and says in the config what it did", async () => {
    const out = at("copied");
    await make("int8", "copied");
    const beside = readdirSync(place.model).filter((name) => !/^(config.json|model.safetensors)$/.test(name));
    expect(readdirSync(out).sort()).toEqual([...beside, "config.json", "model.safetensors"].sort());
    for (const name of beside)
      expectSame(readFileSync(join(out, name)), readFileSync(join(place.model, name)), `byte of ${name}`);
    const config = JSON.parse(readFileSync(join(out, "config.json"), "utf8"));
    const { quantization_config, ...rest } = config;
    expect(quantization_config).toEqual({ quant_method: "dejavu", version: 2, dtype: "int8" });
    expect(rest).toEqual(JSON.parse(readFileSync(join(place.model, "config.json"), "utf8")));
    const weights = await openWeights(out);
    for (const [name, { begin, shape }] of weights.tensors)
      if (shape.length === 2) expect(begin % 64, name).toBe(0);
    expect(weights.tensors.has("model.decoder.layers.0.fc2.weight")).toBe(false);
    expect(weights.tensors.get("model.decoder.layers.0.fc2.weight_transposed")).toMatchObject({
      dtype: "int8",
      shape: [32, 16],
    });
    await weights.close();
  });

  it("prints what it wrote", async () => {
    const out = at("printed");
    const { code, stdout } = await dejavu([
      "quantize",
      place.model,
      "--dtype",
      "int4",
      "--out",
      out,
      "--json",
    ]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ out, dtype: "int4", parameters: expect.any(Number) });
    const text = await dejavu(["generate", out, "--prompt", "ab", "--max-tokens", "3"]);
    expect(text.code).toBe(0);
    const again = await dejavu(["quantize", place.model, "--dtype", "int4", "--out", out]);
    expect(again.code).toBe(2);
    expect(again.stderr).toMatch(/--out .*printed: exists/);
    expect((await dejavu(["quantize", place.model, "--out", at("x")])).code).toBe(2);
  });

  it("replaces with --force what it made, and nothing else", async () => {
    await make("int8", "forced");
    await make("int4", "forced", { force: true });
    expect(
      JSON.parse(readFileSync(join(at("forced"), "config.json"), "utf8")).quantization_config.dtype,
    ).toBe("int4");
    mkdirSync(at("mine"));
    writeFileSync(join(at("mine"), "diary.txt"), "dear diary");
    await expect(make("int8", "mine", { force: true })).rejects.toThrow(/not made by dejavu quantize/);
    expect(readdirSync(at("mine"))).toEqual(["diary.txt"]);
    await expect(quantize(place.model, { dtype: "int8", out: place.model, force: true })).rejects.toThrow(
      UsageError,
    );
    mkdirSync(at("empty"));
    await make("int8", "empty", { force: true });
    writeFileSync(at("file"), "");
    await expect(make("int8", "file")).rejects.toThrow(/is a file/);
  });

  it("leaves nothing behind when it is stopped or fails, and what was there as it was", async () => {
    await make("int8", "kept");
    const before = readFileSync(join(at("kept"), "model.safetensors"));
    const names = readdirSync(place.root).sort();
    const controller = new AbortController();
    const onProgress = (done: number) => void (done === 4 && controller.abort(new Error("enough")));
    const stopped = { force: true, signal: controller.signal, onProgress };
    await expect(make("int4", "kept", stopped)).rejects.toThrow("enough");
    await expect(make("int4", "new", { ...stopped, force: false })).rejects.toThrow("enough");
    const broken = at("broken");
    cpSync(place.model, broken, { recursive: true });
    const file = join(broken, "model.safetensors");
    const bytes = readFileSync(file);
    bytes.fill(0xff, bytes.length - 400); // NaN somewhere among the last matrix or vector
    writeFileSync(file, bytes);
    await expect(
      quantize(broken, { dtype: "int4", out: at("of broken"), backend: "reference" }),
    ).rejects.toThrow(WeightsError);
    expect(readdirSync(place.root).sort()).toEqual([...names, "broken"].sort());
    expectSame(readFileSync(join(at("kept"), "model.safetensors")), before);
    await expect(make("int8", "no/such/folder")).rejects.toThrow(WeightsError);
  });

  it("starts from weights as they were published only", async () => {
    await make("int8", "first");
    const second = quantize(at("first"), { dtype: "int4", out: at("second") });
    await expect(second).rejects.toThrow(/in int8 already/);
    expect(existsSync(at("second"))).toBe(false);
  });
});

describe("prepare", () => {
  it("works on a folder that quantize wrote, but for gradients, which need the weights as published", async () => {
    const { out } = await make("int8", "for prepare");
    const argv = (...more: string[]) => [
      "prepare",
      out,
      "--text",
      place.text,
      "--backend",
      "reference",
      ...more,
    ];
    const few = ["--rows", "2000", "--epochs", "0", "--rank", "4"];
    const made = await dejavu(argv(...few, "--out", join(out, "b.safetensors"), "--json"));
    expect(made.stderr).not.toContain("mistake");
    expect(made.code).toBe(0);
    expect(made.json().targets.heads).toBe("norm");
    const asked = await dejavu(argv(...few, "--head-target", "importance"));
    expect(asked.code).toBe(2);
    expect(asked.stderr).toMatch(/weights as they were published/);
  });
});

describe("a folder whose parts do not belong together", () => {
  it("is refused: config and weights, a foreign format, a forgotten name", async () => {
    await make("int4", "mixed");
    const config = join(at("mixed"), "config.json");
    const original = readFileSync(config, "utf8");
    const refused = async (change: (json: Record<string, unknown>) => void, message: RegExp) => {
      const json = JSON.parse(original);
      change(json);
      writeFileSync(config, JSON.stringify(json));
      await expect(load(at("mixed"))).rejects.toThrow(ConfigError);
      await expect(load(at("mixed"))).rejects.toThrow(message);
    };
    const declared = { quant_method: "dejavu", version: 2, dtype: "int4" };
    await refused((json) => delete json["quantization_config"], /weights are as published, but .* is int4/);
    await refused(
      (json) => Object.assign(json, { quantization_config: { ...declared, dtype: "int8" } }),
      /are int8/,
    );
    await refused(
      (json) => Object.assign(json, { quantization_config: { ...declared, version: 1 } }),
      /version/,
    );
    await refused(
      (json) => Object.assign(json, { quantization_config: { quant_method: "gptq" } }),
      /"gptq" cannot/,
    );
    writeFileSync(config, original);
    cpSync(join(place.model, "model.safetensors"), join(at("mixed"), "model.safetensors"));
    await expect(load(at("mixed"))).rejects.toThrow(/weights are int4, but .* is as published/);
  });

  it("is refused before memory is taken, when the config asks for other sizes", async () => {
    await make("int4", "sizes");
    const config = join(at("sizes"), "config.json");
    const json = JSON.parse(readFileSync(config, "utf8"));
    for (const [field, value] of [
      ["ffn_dim", 1048576],
      ["vocab_size", 4194304],
      ["num_hidden_layers", 1024],
    ] as const) {
      writeFileSync(config, JSON.stringify({ ...json, [field]: value }));
      const before = process.memoryUsage().arrayBuffers;
      await expect(load(at("sizes"), { backend: "reference" })).rejects.toThrow(WeightsError);
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20e6);
    }
    // The format that the metadata promises is asked of every matrix.
    writeFileSync(config, JSON.stringify(json));
    const file = join(at("sizes"), "model.safetensors");
    const text = readFileSync(file, "latin1");
    expect(text).toContain(preparedKey);
    writeFileSync(
      file,
      text.replace('\\"dtype\\":\\"int4\\",\\"source', '\\"dtype\\":\\"int8\\",\\"source'),
      "latin1",
    );
    writeFileSync(
      config,
      JSON.stringify({ ...json, quantization_config: { ...json.quantization_config, dtype: "int8" } }),
    );
    await expect(load(at("sizes"))).rejects.toThrow(/has dtype int4 instead of int8/);
  });
});

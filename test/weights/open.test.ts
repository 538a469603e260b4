import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { WeightsError } from "../../src/util/errors.ts";
import { expectTensors, openSafetensors, openWeights, type Weights } from "../../src/weights/index.ts";
import { onDisk, oneTensor, rawFile, soundFile, temporaryFolder } from "./files.ts";

const indexName = "model.safetensors.index.json";
const tensorFile = (name: string): Uint8Array =>
  rawFile(oneTensor("U8", "[4]", "[0,4]").replace('"x"', JSON.stringify(name)), 4);

async function sharded(index: unknown, shards: Readonly<Record<string, Uint8Array>> = {}): Promise<Weights> {
  const folder = await temporaryFolder();
  await writeFile(join(folder, indexName), typeof index === "string" ? index : JSON.stringify(index));
  for (const [name, bytes] of Object.entries(shards)) await writeFile(join(folder, name), bytes);
  return openWeights(folder);
}

describe("one file", () => {
  it("reads whole tensors and parts of them", async () => {
    const weights = await openSafetensors(await onDisk(soundFile()));
    const whole = new Uint8Array(24);
    await weights.read("layer.0.weight", whole);
    expect([...whole]).toEqual(Array.from({ length: 24 }, (_, i) => i));
    const part = new Uint8Array(3);
    await weights.read("mask", part, 2);
    expect([...part]).toEqual([36, 37, 38]);
    await weights.read("empty", new Uint8Array(0));
    await weights.close();
  });

  it("refuses ranges beyond the tensor, unknown names, and reads after closing", async () => {
    const weights = await openSafetensors(await onDisk(soundFile()));
    await expect(weights.read("mask", new Uint8Array(6))).rejects.toThrow(/exceed its 5 bytes/);
    await expect(weights.read("mask", new Uint8Array(5), 1)).rejects.toThrow(WeightsError);
    await expect(weights.read("mask", new Uint8Array(1), -1)).rejects.toThrow(WeightsError);
    await expect(weights.read("mask", new Uint8Array(1), 0.5)).rejects.toThrow(WeightsError);
    await expect(weights.read("nothing", new Uint8Array(1))).rejects.toThrow(
      /"nothing": there is no such tensor/,
    );
    await weights.close();
    await weights.close();
    await expect(weights.read("mask", new Uint8Array(5))).rejects.toThrow(/closed/);
    await expect(weights.fingerprint()).rejects.toThrow(/closed/);
  });

  it("has a fingerprint that every byte of a small file counts for", async () => {
    const fingerprint = async (bytes: Uint8Array) => {
      const weights = await openSafetensors(await onDisk(bytes));
      const result = await weights.fingerprint();
      await weights.close();
      return result;
    };
    const bytes = soundFile();
    const original = await fingerprint(bytes);
    expect(original).toMatch(/^[0-9a-f]{64}$/);
    expect(await fingerprint(bytes.slice())).toBe(original);
    const dataStart = bytes.length - 39;
    for (let at = dataStart; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at]! ^= 1;
      expect(await fingerprint(changed), `byte ${at}`).not.toBe(original);
    }
    const renamed = bytes.slice();
    renamed[Buffer.from(bytes).indexOf("mask")]! ^= 1;
    expect(await fingerprint(renamed)).not.toBe(original);
  });

  it("has a fingerprint that reads a sample of a large file, from its first byte to its last", async () => {
    const bytes = rawFile(oneTensor("U8", "[5000000]", "[0,5000000]"), 5_000_000);
    const file = await onDisk(bytes);
    const dataStart = bytes.length - 5_000_000;
    const fingerprint = async () => {
      const weights = await openSafetensors(file);
      const result = await weights.fingerprint();
      await weights.close();
      return result;
    };
    const original = await fingerprint();
    const changesWith = async (at: number) => {
      const changed = bytes.slice();
      changed[dataStart + at]! ^= 1;
      await writeFile(file, changed);
      return (await fingerprint()) !== original;
    };
    for (const at of [0, 4095, 4_999_999]) expect(await changesWith(at), `byte ${at}`).toBe(true);
    expect(await changesWith(4096)).toBe(false); // between two pieces of the sample
  });
});

describe("a folder", () => {
  it("says what it looked for", async () => {
    const opened = openWeights(await temporaryFolder());
    await expect(opened).rejects.toThrow(/neither model\.safetensors nor model\.safetensors\.index\.json/);
  });

  it("says that a pickle will not do", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "pytorch_model.bin"), "x");
    await expect(openWeights(folder)).rejects.toThrow(/pytorch_model\.bin is, but .*safetensors only/);
  });

  it("opens the bundled model", async () => {
    const weights = await openWeights("models/stories-4m");
    expect(weights.tensors.get("model.decoder.embed_tokens.weight")).toMatchObject({
      dtype: "F16",
      shape: [4096, 192],
    });
    expect(weights.metadata.get("format")).toBe("pt");
    await weights.close();
  });
});

describe("several files with an index", () => {
  it("reads each tensor from its own", async () => {
    const shards = { "b.safetensors": tensorFile("first"), "a.safetensors": tensorFile("second") };
    const index = {
      metadata: { total_size: 1.5e3 },
      weight_map: { first: "b.safetensors", second: "a.safetensors" },
    };
    const weights = await sharded(index, shards);
    expect([...weights.tensors.keys()].sort()).toEqual(["first", "second"]);
    expect(weights.files.map((file) => file.slice(-13))).toEqual(["a.safetensors", "b.safetensors"]);
    const bytes = new Uint8Array(2);
    await weights.read("first", bytes, 1);
    expect([...bytes]).toEqual([1, 2]);
    await weights.close();
  });

  it("L11: accepts no name that leads elsewhere", async () => {
    const names = [
      "../../x",
      "a/b",
      "/etc/passwd",
      "C:\\x",
      "a\\b",
      "\\\\host\\x",
      "C:x",
      "..",
      ".",
      "",
      "a\0b",
    ];
    for (const name of [...names, "http://x/y", "nul", "COM1.safetensors", "x ", "x.", "y".repeat(256)]) {
      const opened = sharded({ weight_map: { t: name } });
      await expect(opened, name).rejects.toThrow(/is not the plain name of a file/);
      await expect(opened, name).rejects.toThrow(WeightsError);
    }
  });

  it("L12: accepts no more than 10,000 of them", async () => {
    const entries = Array.from({ length: 10_001 }, (_, i) => [`t${i}`, `s${i}.safetensors`]);
    await expect(sharded({ weight_map: Object.fromEntries(entries) })).rejects.toThrow(
      /more than 10000 shards/,
    );
  });

  it.each([
    ["not JSON", "x", "expected an object"],
    ["no map", "{}", "there is no weight_map"],
    ["a list", '{"weight_map":[]}', "expected an object"],
    ["a number", '{"weight_map":{"t":1}}', "expected a string"],
    ["a key twice", '{"weight_map":{"t":"a","t":"b"}}', 'duplicate key "t"'],
    ["a map twice", '{"weight_map":{"t":"a"},"weight_map":{}}', 'duplicate key "weight_map"'],
    ["deep nesting", `{"metadata":${"[".repeat(100_000)}`, "deeper than 32"],
  ])("refuses %s", async (_, index, reason) => {
    await expect(sharded(index)).rejects.toThrow(reason);
  });

  it("refuses shards that contradict the index", async () => {
    const a = tensorFile("first");
    const map = { first: "a", second: "b" };
    await expect(sharded({ weight_map: map }, { a })).rejects.toThrow(/b: there is no such file/);
    await expect(sharded({ weight_map: map }, { a, b: a })).rejects.toThrow(/"second": it is not in b/);
    const both =
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}';
    const twice = { x: rawFile(both, 2), y: rawFile(both, 2) };
    await expect(sharded({ weight_map: { a: "x", b: "y" } }, twice)).rejects.toThrow(/but the index says/);
    await expect(sharded({ weight_map: { a: "x" } }, twice)).rejects.toThrow(
      /but the index does not name it/,
    );
  });
});

describe("L13: tensors that the model needs", () => {
  it("lists all that are missing or different at once", async () => {
    const weights = await openSafetensors(await onDisk(soundFile()));
    const check = (...expected: Parameters<typeof expectTensors>[1]): void =>
      expectTensors(weights, expected);
    check({ name: "layer.0.weight", shape: [2, 3], dtypes: ["F16", "F32"] });
    const faulty = (): void =>
      check(
        { name: "layer.0.weight", shape: [3, 2], dtypes: ["F32"] },
        { name: "layer.0.bias", shape: [3], dtypes: ["F32", "F16"] },
        { name: "mask", shape: [5], dtypes: ["U8"] },
        { name: "gone", shape: [1], dtypes: ["F32"] },
      );
    expect(faulty).toThrow(WeightsError);
    expect(faulty).toThrow(
      /3 of 4 .*\[2,3\] instead of \[3,2\]; .*BF16 instead of F32 or F16; gone is missing\./,
    );
    await weights.close();
  });

  it("names ten and counts the rest", async () => {
    const weights = await openSafetensors(await onDisk(soundFile()));
    const many = Array.from({ length: 13 }, (_, i) => ({
      name: `t${i}`,
      shape: [],
      dtypes: ["F32"] as const,
    }));
    expect(() => expectTensors(weights, many)).toThrow(/t9 is missing; and 3 more/);
    await weights.close();
  });
});

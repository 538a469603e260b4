/** A bundle that does not fit is refused, by a message that says what is wrong. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { type BundleModel, loadBundle, writeBundle } from "../../src/sparsity/bundle.ts";
import { f16ToNumber } from "../../src/tensor/dtype.ts";
import { BundleError, DejavuError, WeightsError } from "../../src/util/errors.ts";
import { writeSafetensors } from "../../src/weights/index.ts";
import { storiesFolder } from "../helpers/golden.ts";
import { temporaryFolder } from "../helpers/temporary-folder.ts";
import { type BundleParts, bundleKey, tinyBundle, tinyBundleModel } from "../helpers/tiny-bundle.ts";
import { watchMemory } from "../helpers/watch-memory.ts";

const folder = temporaryFolder();
const file = join(folder, "bundle.safetensors");
const kernels = openReference();
const memory = watchMemory(kernels);
afterAll(() => kernels.dispose());
beforeEach(() => () => expect(memory.live.size, "tensors left behind").toBe(0));

const open = (model: BundleModel = tinyBundleModel) => loadBundle(kernels, file, model);

/** Writes the bundle without the checks of `writeBundle`. */
const writeUnchecked = ({ metadata, tensors }: BundleParts) =>
  writeSafetensors(file, tensors, { [bundleKey]: JSON.stringify(metadata) });

const find = ({ tensors }: BundleParts, name: string) => tensors.find((tensor) => tensor.name === name)!;

describe("a sound bundle", () => {
  it("loads as it was written", async () => {
    const { metadata, tensors } = tinyBundle();
    await writeBundle(file, metadata, tensors);
    const bundle = await open();
    expect(bundle.metadata).toEqual(metadata);
    const { down, up, bias, source } = bundle.predictors.neurons[1]!;
    expect(source).toBe("mlp-input");
    expect([down!.shape, up.shape, bias.shape]).toEqual([[2, 4], [2, 6], [6]]);
    expect([down!.dtype, up.dtype, bias.dtype]).toEqual(["f16", "f16", "f32"]);
    const values = new Float32Array(6);
    await kernels.read(bias, values);
    const stored = new Uint16Array(tensors.find(({ name }) => name === "neurons.1.bias")!.data.buffer);
    expect(values).toEqual(Float32Array.from(stored, f16ToNumber));
    expect(bundle.predictors.heads[0]!.down).toBeNull();
    expect(bundle.statistics.heads.map(({ length }) => length)).toEqual([2, 2]);
    bundle.dispose();
  });

  it("loads as it was written, with one predictor for all layers", async () => {
    const { metadata, tensors } = tinyBundle("shadow");
    await writeBundle(file, metadata, tensors);
    const bundle = await open();
    expect(bundle.metadata).toEqual(metadata);
    const { heads, neurons } = bundle.predictors;
    expect(heads[0]).toBeNull();
    expect([heads[1]!.down!.shape, heads[1]!.up.shape]).toEqual([
      [3, 4],
      [3, 2],
    ]);
    expect(neurons[0]!.down).toBe(neurons[1]!.down);
    expect(neurons[0]!.up).not.toBe(neurons[1]!.up);
    expect(neurons[1]!.source).toBe("first-block");
    bundle.dispose();
  });

  it("may lack the predictor of a layer that is dense", async () => {
    const parts = tinyBundle();
    const tensors = parts.tensors.filter(({ name }) => !/^heads\.0\.(up|bias)/.test(name));
    await writeBundle(file, parts.metadata, tensors);
    const bundle = await open();
    expect(bundle.predictors.heads[0]).toBeNull();
    bundle.dispose();
  });
});

/** What is done to a bundle, and what the message must say. */
const refusals: [string, (parts: BundleParts) => void, RegExp][] = [
  ["another version", ({ metadata }) => Object.assign(metadata, { version: 1 }), /version 1.*reads 4/],
  ["no version", ({ metadata }) => Object.assign(metadata, { version: undefined }), /version undefined/],
  ...Object.entries({
    fingerprint: "f".repeat(64),
    modelType: "llama",
    layers: 3,
    hiddenSize: 8,
    heads: 4,
    ffnDim: 12,
  }).map(([field, value]): [string, (parts: BundleParts) => void, RegExp] => [
    `another ${field}`,
    ({ metadata }) => Object.assign(metadata.model, { [field]: value }),
    new RegExp(`another model: ${field} is ${value}`),
  ]),
  [
    "a hash that is none",
    ({ metadata }) => Object.assign(metadata.model, { fingerprint: "x" }),
    /model\.fingerprint/,
  ],
  [
    "a source of another name",
    ({ metadata }) => Object.assign(metadata.sources, { neurons: "residual" }),
    /sources\.neurons/,
  ],
  [
    "heads predicted from mlp-input",
    ({ metadata }) => Object.assign(metadata.sources, { heads: "mlp-input" }),
    /heads cannot be predicted from mlp-input/,
  ],
  [
    "a source that belongs to another kind of predictor",
    ({ metadata }) => Object.assign(metadata.sources, { neurons: "first-block" }),
    /a predictor "per-layer" of neurons cannot read first-block/,
  ],
  [
    "a kind of predictor whose sources are not its own",
    ({ metadata }) => Object.assign(metadata, { predictor: "shadow" }),
    /a predictor "shadow" of heads cannot read attention-input/,
  ],
  ["a predictor of another kind", ({ metadata }) => Object.assign(metadata, { predictor: "x" }), /predictor/],
  [
    "a target that is none",
    ({ metadata }) => Object.assign(metadata.targets, { heads: "weight" }),
    /targets\.heads/,
  ],
  [
    "layer 0 predicted from the block before",
    ({ metadata }) => Object.assign(metadata.sources, { neurons: "previous-block" }),
    /neurons of layer 0 cannot be predicted from previous-block/,
  ],
  [
    "a policy for fewer layers",
    ({ metadata }) => metadata.policy.neurons.pop(),
    /1 entries for neurons.*2 layers/,
  ],
  [
    "a policy for more layers",
    ({ metadata }) => metadata.policy.heads.push({ kind: "dense" }),
    /3 entries for heads.*2 layers/,
  ],
  [
    "a calibration for fewer layers",
    ({ metadata }) => metadata.calibration.heads.pop(),
    /1 entries for heads/,
  ],
  [
    "more neurons asked for than there are",
    ({ metadata }) => Object.assign(metadata.policy.neurons[1]!, { k: 7 }),
    /7 of 6 neurons/,
  ],
  [
    "more heads asked for than there are",
    ({ metadata }) => Object.assign(metadata.policy.heads[1]!, { k: 3 }),
    /3 of 2 heads/,
  ],
  [
    "a point of the curve for fewer layers",
    ({ metadata }) => metadata.curve[1]!.policy.neurons.pop(),
    /1 entries for neurons/,
  ],
  [
    "densities of a point for more layers",
    ({ metadata }) => metadata.curve[0]!.densities.heads.push(1),
    /3 entries for heads/,
  ],
  [
    "a point of the curve that asks for too much",
    ({ metadata }) => Object.assign(metadata.curve[1]!.policy.neurons[1]!, { k: 7 }),
    /7 of 6 neurons/,
  ],
  [
    "a point of the curve that needs a predictor that is not there",
    (parts) => {
      parts.metadata.curve[1]!.policy.heads[0] = { kind: "topK", k: 1 };
      parts.tensors.splice(parts.tensors.indexOf(find(parts, "heads.0.up")), 1);
    },
    /"heads\.0\.up" is missing/,
  ],
  [
    "a point of the curve better than dense",
    ({ metadata }) => Object.assign(metadata.curve[0]!, { quality: -0.01 }),
    /curve\.0\.quality/,
  ],
  ["k = 0", ({ metadata }) => Object.assign(metadata.policy.neurons[1]!, { k: 0 }), /policy\.neurons\.1\.k/],
  [
    "a threshold that is no number",
    ({ metadata }) => Object.assign(metadata.policy.neurons[0]!, { threshold: null }),
    /policy\.neurons\.0\.threshold/,
  ],
  ["an unknown field", ({ metadata }) => Object.assign(metadata, { extra: 1 }), /extra/],
  [
    "a kind of attention that is not there",
    ({ metadata }) => Object.assign(metadata.policy, { attention: "elsewhere" }),
    /policy\.attention/,
  ],
  ...["heads.0.score", "neurons.1.score", "neurons.0.up", "neurons.1.bias", "heads.1.up", "heads.0.bias"].map(
    (missing): [string, (parts: BundleParts) => void, RegExp] => [
      `no ${missing}`,
      (parts) => parts.tensors.splice(parts.tensors.indexOf(find(parts, missing)), 1),
      new RegExp(`tensor "${missing}" is missing`),
    ],
  ),
  [
    "down missing where up has its rank",
    (parts) => parts.tensors.splice(parts.tensors.indexOf(find(parts, "neurons.0.down")), 1),
    /"neurons\.0\.up" is \[6, 2\], expected \[6, 4\]/,
  ],
  [
    "a tensor too many",
    ({ tensors }) => tensors.push({ ...tensors[0]!, name: "neurons.2.score" }),
    /unexpected tensor "neurons\.2\.score"/,
  ],
  ...(
    [
      ["neurons.0.down", [4, 2]],
      ["neurons.0.down", [8]],
      ["neurons.0.up", [2, 6]],
      ["neurons.0.bias", [1, 6]],
      ["neurons.0.score", [3, 2]],
      ["heads.1.up", [4, 2]],
    ] as const
  ).map(([name, shape]): [string, (parts: BundleParts) => void, RegExp] => [
    `${name} of shape [${shape}]`,
    (parts) => Object.assign(find(parts, name), { shape: [...shape] }),
    new RegExp(`tensor "${name}" is \\[${shape.join(", ")}\\], expected`),
  ]),
  [
    "a rank of 0",
    (parts) => {
      const empty = { shape: [0, 4], data: new Uint8Array(0) };
      Object.assign(find(parts, "neurons.0.down"), empty);
      Object.assign(find(parts, "neurons.0.up"), { ...empty, shape: [6, 0] });
    },
    /"neurons\.0\.down".*0/,
  ],
  [
    "a tensor of integers",
    (parts) => Object.assign(find(parts, "neurons.0.bias"), { dtype: "I32" }),
    /"neurons\.0\.bias" is I32/,
  ],
];

/** The same for one predictor for all layers. */
const shadowRefusals: [string, (parts: BundleParts) => void, RegExp][] = [
  [
    "no hidden layer of heads",
    (parts) => parts.tensors.splice(parts.tensors.indexOf(find(parts, "heads.down")), 1),
    /tensor "heads\.down" is missing/,
  ],
  [
    "a hidden layer of another width than the outputs",
    (parts) => Object.assign(find(parts, "neurons.1.up"), { shape: [3, 4] }),
    /"neurons\.1\.up" is \[3, 4\], expected \[6, 2\]/,
  ],
  [
    "a hidden layer that reads something wider",
    (parts) => Object.assign(find(parts, "neurons.down"), { shape: [1, 8] }),
    /"neurons\.down" is \[1, 8\], expected \[any, 4\]/,
  ],
  [
    "a hidden layer of a layer's own",
    ({ tensors }) => tensors.push({ ...tensors[0]!, name: "neurons.1.down" }),
    /unexpected tensor "neurons\.1\.down"/,
  ],
  [
    "a predictor of the first block's heads",
    (parts) => parts.tensors.push({ ...find(parts, "heads.1.up"), name: "heads.0.up" }),
    /heads of layer 0 cannot be predicted from first-block/,
  ],
  [
    "a policy that needs one",
    ({ metadata }) => Object.assign(metadata.policy.heads, { 0: { kind: "topK", k: 1 } }),
    /heads of layer 0 cannot be predicted from first-block/,
  ],
  [
    "a source of one layer's own",
    ({ metadata }) => Object.assign(metadata.sources, { heads: "attention-input" }),
    /a predictor "shadow" of heads cannot read attention-input/,
  ],
];
const kinds = [
  ...refusals.map((refusal) => ["per-layer", ...refusal] as const),
  ...shadowRefusals.map((refusal) => ["shadow", ...refusal] as const),
];

describe("a bundle is refused for", () => {
  it.each(kinds)("%s: %s", async (kind, _, change, message) => {
    const parts = tinyBundle(kind);
    change(parts);
    await writeUnchecked(parts);
    const before = memory.bytes;
    const error = await open().then(
      (bundle) => bundle.dispose(),
      (cause: unknown) => cause,
    );
    expect(error).toBeInstanceOf(BundleError);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toContain(file);
    expect(memory.bytes, "memory was taken before the checks").toBe(before);
  });

  it.each(["null", "[]", "7", '"x"', "{", ""])("metadata %j", async (text) => {
    await writeSafetensors(file, tinyBundle().tensors, { [bundleKey]: text });
    await expect(open()).rejects.toThrow(BundleError);
  });

  it("being a file of weights", async () => {
    const model = join(storiesFolder, "model.safetensors");
    await expect(loadBundle(kernels, model, tinyBundleModel)).rejects.toThrow(/not a bundle/);
    await expect(loadBundle(kernels, model, tinyBundleModel)).rejects.toThrow(BundleError);
  });

  it("being absent, empty, a folder or no safetensors at all", async () => {
    const text = join(folder, "text");
    const empty = join(folder, "empty");
    writeFileSync(text, "Once upon a time there was a file that was none.");
    writeFileSync(empty, "");
    for (const path of [join(folder, "absent"), folder, text, empty]) {
      const failed = loadBundle(kernels, path, tinyBundleModel);
      await expect(failed).rejects.toThrow(WeightsError);
      await expect(failed).rejects.toThrow(path);
    }
  });
});

describe("writing", () => {
  it("refuses what loading would", async () => {
    const { metadata, tensors } = tinyBundle();
    const broken = { ...metadata, version: 7 as never };
    await expect(writeBundle(join(folder, "new"), broken, tensors)).rejects.toThrow();
    await expect(loadBundle(kernels, join(folder, "new"), tinyBundleModel)).rejects.toThrow(DejavuError);
  });
});

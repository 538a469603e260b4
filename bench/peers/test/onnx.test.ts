import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { encodeModel } from "../checkpoints/onnx.ts";
import { OptGraph } from "../checkpoints/opt-graph.ts";
import { modelFile, planOpt, writeOpt } from "../checkpoints/opt-onnx.ts";
import { bytesField, floatField, integerField } from "../checkpoints/protobuf.ts";
import { formats } from "../formats.ts";
import { shapeNamed } from "../shapes.ts";
import { matrixBytes } from "./matrix-bytes.ts";

const folder = mkdtempSync(join(tmpdir(), "peers-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("fields are encoded as the protobuf documentation's examples", () => {
  expect([...integerField(1, 150)]).toEqual([0x08, 0x96, 0x01]);
  expect([...bytesField(2, "testing")]).toEqual([0x12, 7, ...Buffer.from("testing")]);
  expect([...integerField(1, -2)]).toEqual([0x08, 0xfe, ...new Array(8).fill(0xff), 0x01]);
  expect([...floatField(3, 1)]).toEqual([0x1d, 0, 0, 0x80, 0x3f]);
  expect([...integerField(20, 1)]).toEqual([0xa0, 0x01, 1]);
});

test.each(formats)("every input of a %s node is an output before it, a constant or an input", (format) => {
  const graph = new OptGraph(shapeNamed("tiny"), format).build();
  const known = new Set(["", ...[...graph.inputs, ...graph.small, ...graph.large].map(({ name }) => name)]);
  for (const { inputs, outputs } of graph.nodes) {
    for (const input of inputs) expect(known).toContain(input);
    for (const output of outputs) known.add(output);
  }
  for (const { name } of graph.outputs) expect(known).toContain(name);
});

test("weights do not overlap, and are aligned", () => {
  const { large } = new OptGraph(shapeNamed("tiny"), "int4").build();
  let end = 0;
  for (const { offset, length } of large) {
    expect(offset % 4096).toBe(0);
    expect(offset).toBeGreaterThanOrEqual(end);
    end = offset + length;
  }
});

test.each(formats)("the %s files have the size that is foretold", async (format) => {
  const shape = shapeNamed("tiny");
  await writeOpt(folder, shape, format);
  const model = modelFile(folder, format);
  const names = encodeModel(new OptGraph(shape, format).build(), "data").length;
  const { fileBytes } = planOpt(shape, format);
  expect(statSync(`${model}_data`).size + names).toBe(fileBytes);
  expect(statSync(model).size).toBeGreaterThan(names); // the name of the data file is longer than "data"
});

test("a token reads all matrices once, in bytes of the format", () => {
  const shape = shapeNamed("opt-1.3b");
  const bits = { int4: 5, f16: 32, q8: 9 }; // a block of 32 has a scale of 32 bits; f16 is widened
  for (const format of formats) {
    const rest = planOpt(shape, format).bytesPerToken - matrixBytes(shape, bits[format]);
    expect(rest).toBeGreaterThan(0); // biases and norms
    expect(rest).toBeLessThan(4e6);
  }
});

import { execFileSync } from "node:child_process";
import { truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { WeightsError } from "../../src/util/errors.ts";
import { openSafetensors, parseHeader } from "../../src/weights/index.ts";
import { onDisk, oneTensor, rawFile, soundFile, temporaryFolder } from "./files.ts";

function faultOf(bytes: Uint8Array): WeightsError {
  try {
    parseHeader(bytes, bytes.length, "some.safetensors");
  } catch (cause) {
    expect(cause).toBeInstanceOf(WeightsError);
    const error = cause as WeightsError;
    expect(error.file).toBe("some.safetensors");
    expect(error.message).toContain(error.reason);
    return error;
  }
  throw new Error("the file was accepted");
}

const reasonOf = (bytes: Uint8Array): string => faultOf(bytes).reason;

describe("a sound file", () => {
  it("gives its tensors and metadata", () => {
    const bytes = soundFile();
    const { tensors, metadata, dataStart } = parseHeader(bytes, bytes.length, "f");
    expect([...tensors.keys()]).toEqual(["layer.0.weight", "layer.0.bias", "empty", "scalar", "mask"]);
    expect(tensors.get("layer.0.bias")).toEqual({
      name: "layer.0.bias",
      dtype: "BF16",
      shape: [3],
      file: "f",
      begin: dataStart + 24,
      end: dataStart + 30,
    });
    expect([...metadata]).toEqual([
      ["format", "pt"],
      ['quo"te', "é \n"],
    ]);
  });

  it("may hold no tensor at all", () => {
    expect(parseHeader(rawFile("{}"), 10, "f").tensors.size).toBe(0);
  });

  it("is read the same from the middle of a larger buffer", () => {
    const bytes = soundFile();
    const larger = new Uint8Array(bytes.length + 10);
    larger.set(bytes, 3);
    expect(parseHeader(larger.subarray(3), bytes.length, "f")).toEqual(parseHeader(bytes, bytes.length, "f"));
  });
});

describe("L1: not a file of this kind", () => {
  it("empty or shorter than 8 bytes", async () => {
    for (const size of [0, 1, 7]) {
      const error = openSafetensors(await onDisk(new Uint8Array(size)));
      await expect(error).rejects.toThrow(WeightsError);
      await expect(error).rejects.toThrow(`${size} bytes are too few`);
    }
  });

  it("a Git LFS pointer", async () => {
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 12345\n`;
    await expect(openSafetensors(await onDisk(pointer))).rejects.toThrow(/Git LFS pointer.*git lfs pull/);
  });

  it("a folder", async () => {
    await expect(openSafetensors(await temporaryFolder())).rejects.toThrow(/folder, not a file/);
  });

  it.skipIf(process.platform === "win32")("a named pipe, without waiting for a writer", async () => {
    const pipe = join(await temporaryFolder(), "pipe");
    execFileSync("mkfifo", [pipe]);
    await expect(openSafetensors(pipe)).rejects.toThrow(/pipe or device/);
  });

  it("a file that is not there", async () => {
    await expect(openSafetensors(join(await temporaryFolder(), "x"))).rejects.toThrow(/no such file/);
  });
});

describe("L2: a header length that cannot be", () => {
  it.each([2n ** 63n, 2n ** 64n - 1n, 100_000_001n])("%s bytes", (length) => {
    expect(reasonOf(rawFile("{}", 0, length))).toMatch(/exceeds 100000000 bytes/);
  });

  it("one byte more than the file has", () => {
    expect(reasonOf(rawFile("{}", 0, 3n))).toMatch(/exceeds the file's 10 bytes/);
    expect(faultOf(rawFile("{}", 0, 3n)).message).toMatch(/truncated/);
  });

  it("is refused before memory is taken for it", async () => {
    const file = await onDisk(rawFile("{}", 0, 99_999_999n));
    const before = process.memoryUsage().arrayBuffers;
    await expect(openSafetensors(file)).rejects.toThrow(WeightsError);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10_000_000);
  });
});

describe("L3: a header that is not JSON of the right kind", () => {
  it.each([
    ["", 'does not start with "{"'],
    ["[]", 'does not start with "{"'],
    [" {}", 'does not start with "{"'],
    ["\ufeff{}", 'does not start with "{"'],
    ["{", "expected a string"],
    ['{"x"', 'expected ":"'],
    ['{"x":', "expected an object"],
    ['{"x":1}', "expected an object"],
    ['{"x":{}}', "all needed"],
    ["{}{}", "after the end"],
    ["{}x", "after the end"],
    ["{}\0", "after the end"],
    ["{'x':1}", "expected a string"],
    ['{"x":{},}', "all needed"],
    ['{"a\nb":1}', "control character"],
    ['{"\\x":1}', "unknown escape"],
    ['{"\\u12":1}', "broken \\u escape"],
    ['{"\\ud800":1}', "unpaired surrogate"],
    ['{"__metadata__":{"a":1}}', "expected a string"],
    ['{"__metadata__":"a"}', "expected an object"],
    [oneTensor("F32", "{}", "[0,4]"), "expected an array"],
    [oneTensor("F32", "[1]", "[0]"), "not a begin and an end"],
    [oneTensor("F32", "[1]", "[0,4,8]"), "more than 2 data_offsets"],
    [oneTensor("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), "more than 8 dimensions"],
    ['{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}', 'unknown field "more"'],
  ])("%j", (header, reason) => {
    expect(reasonOf(rawFile(header, 4))).toContain(reason);
  });

  it("bytes that are not UTF-8", () => {
    expect(reasonOf(rawFile(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)))).toBe(
      "the header is not valid UTF-8",
    );
  });

  it("nesting a million deep", () => {
    expect(reasonOf(rawFile(`{"x":${"[".repeat(1e6)}`))).toMatch(/expected an object/);
    expect(reasonOf(rawFile(`{"x":{"shape":${"[".repeat(1e6)}`))).toMatch(/expected an integer/);
  });
});

describe("L4: duplicate keys", () => {
  it.each([
    [
      '{"x":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}',
      '"x"',
    ],
    ['{"x":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"\\u0078":{}}', '"x"'],
    ['{"x":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}', '"dtype"'],
    ['{"__metadata__":{"a":"1","a":"1"}}', '"a"'],
    ['{"__metadata__":{},"__metadata__":{}}', '"__metadata__"'],
  ])("%s", (header, key) => {
    expect(reasonOf(rawFile(header, 1))).toBe(`duplicate key ${key}`);
  });
});

describe("L5: names that mean something to JavaScript", () => {
  it("__proto__ is refused", () => {
    const tensor = '{"dtype":"U8","shape":[],"data_offsets":[0,1]}';
    expect(reasonOf(rawFile(`{"__proto__":${tensor}}`, 1))).toMatch(/__proto__/);
    expect(reasonOf(rawFile('{"__metadata__":{"__proto__":"x"}}'))).toMatch(/__proto__/);
  });

  it.each(["constructor", "toString", "hasOwnProperty"])("%s is a name like any other", (name) => {
    const bytes = rawFile(oneTensor("U8", "[]", "[0,1]").replace('"x"', `"${name}"`), 1);
    expect([...parseHeader(bytes, bytes.length, "f").tensors.keys()]).toEqual([name]);
  });
});

describe("L6: numbers that are not plain integers", () => {
  it.each([
    "9007199254740993",
    "1e400",
    "-1",
    "-0",
    "1.0",
    "4e0",
    "1E0",
    '"4"',
    "null",
    "true",
    "01",
    "+4",
    "NaN",
  ])("%s", (number) => {
    expect(faultOf(rawFile(oneTensor("F32", `[${number}]`, "[0,4]"), 4)).tensor).toBe("x");
    faultOf(rawFile(oneTensor("F32", "[1]", `[0,${number}]`), 4));
    faultOf(rawFile(oneTensor("F32", "[1]", `[${number},4]`), 4));
  });
});

describe("L7, L8: tensors that do not tile the data", () => {
  const two = (first: string, second: string): string =>
    `{"a":{"dtype":"U8","shape":[4],"data_offsets":${first}},"b":{"dtype":"U8","shape":[4],"data_offsets":${second}}}`;

  it.each([
    ["L7 same region twice", two("[0,4]", "[0,4]"), 4, /overlaps/],
    ["L7 partial overlap", two("[0,4]", "[2,6]"), 6, /overlaps/],
    ["L8 hole in front", oneTensor("U8", "[4]", "[1,5]"), 5, /hole/],
    ["L8 hole between", two("[0,4]", "[5,9]"), 9, /hole/],
    ["L8 trailing bytes", oneTensor("U8", "[4]", "[0,4]"), 5, /1 bytes after the last tensor/],
    ["L8 trailing bytes and no tensor", "{}", 5, /5 bytes after the last tensor/],
    ["truncated data", oneTensor("U8", "[4]", "[0,4]"), 3, /beyond the end of the file/],
    ["end before begin", oneTensor("U8", "[4]", "[4,0]"), 4, /not a begin and an end/],
  ])("%s", (_, header, dataBytes, reason) => {
    expect(reasonOf(rawFile(header, dataBytes))).toMatch(reason);
  });

  it("accepts tensors whose data is in another order than their names", () => {
    const bytes = rawFile(two("[4,8]", "[0,4]"), 8);
    expect(parseHeader(bytes, bytes.length, "f").tensors.size).toBe(2);
  });
});

describe("L9: a size that does not fit its span", () => {
  it.each([
    ["F32", "[2]", "[0,4]", /takes 8 bytes, but data_offsets span 4/],
    ["F32", "[]", "[0,8]", /takes 4 bytes/],
    ["F32", "[4294967296,4294967296]", "[0,0]", /overflows/],
    ["F16", "[9007199254740991,2]", "[0,4]", /overflows/],
    ["U8", "[134217728,134217728,0]", "[0,0]", /overflows/],
  ])("%s %s in %s", (dtype, shape, offsets, reason) => {
    const error = faultOf(rawFile(oneTensor(dtype, shape, offsets), 4));
    expect(error.reason).toMatch(reason);
    expect(error.message).toMatch(/^some\.safetensors: tensor "x": /);
  });
});

describe("L10: dtypes that are not known", () => {
  it.each(["F64", "F8_E4M3", "F4", "f32", "", "toString"])("%j", (dtype) => {
    expect(reasonOf(rawFile(oneTensor(dtype, "[1]", "[0,4]"), 4))).toMatch(/is not supported/);
  });
});

describe("a file that changes while it is open", () => {
  it("is noticed at the next read", async () => {
    const file = await onDisk(soundFile());
    const weights = await openSafetensors(file);
    await weights.read("mask", new Uint8Array(5));
    truncateSync(file, soundFile().length - 1);
    await expect(weights.read("scalar", new Uint8Array(4))).rejects.toThrow(/when it was opened/);
    await weights.close();
  });
});

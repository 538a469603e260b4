import { expect, test } from "vitest";
import type { Measurement } from "../run/measure.ts";
import { parseOptions } from "../run/options.ts";
import { othersShare, parseCpuTimes } from "../run/others.ts";
import { runForJson } from "../run/process.ts";
import { ratios, summarize } from "../run/summary.ts";

const one = (
  engine: Measurement["engine"],
  variant: "dense" | "sparse",
  round: number,
  decode: number,
  prompt: number,
) =>
  ({
    ...{ engine, variant, round, format: "int4", decodeTokensPerSecond: decode, details: "" },
    ...{ promptTokensPerSecond: { 128: prompt }, bytesPerToken: 1e9 },
    ...{ startSeconds: null, peakResidentBytes: null, othersShare: null },
  }) satisfies Measurement;

// The second round ran on a machine half as fast.
const measurements = [
  ...[one("dejavu", "sparse", 0, 40, 90), one("dejavu", "dense", 0, 20, 90)],
  ...[one("node-llama-cpp", "dense", 0, 10, 30), one("transformers.js", "dense", 0, 16, 60)],
  ...[one("dejavu", "sparse", 1, 20, 45), one("dejavu", "dense", 1, 10, 45)],
  ...[one("node-llama-cpp", "dense", 1, 5, 45), one("transformers.js", "dense", 1, 8, 30)],
];

test("ratios are taken within a round", () => {
  const of = (what: string, over: string, variant: string) =>
    ratios(measurements).find((r) => r.what === what && r.over === over && r.of === `dejavu ${variant} int4`)!
      .ratio;
  expect(of("decoding", "node-llama-cpp", "sparse")).toEqual({ median: 4, p25: 4, p75: 4 });
  expect(of("decoding", "transformers.js", "dense")).toEqual({ median: 1.25, p25: 1.25, p75: 1.25 });
  // over the faster of both in each round: 90/60 and 45/45
  expect(of("prompt of 128", "the faster peer", "dense").median).toBe(1.25);
});

test("rows have medians, and the share of the probe's median", () => {
  const row = summarize(measurements, [20, 40]).find(({ variant }) => variant === "sparse")!;
  expect(row.decode).toEqual({ median: 30, p25: 25, p75: 35 });
  expect([row.gigabytesPerSecond, row.probeShare]).toEqual([30, 1]);
});

test("what others used is what was busy less this process and its children", () => {
  const before = parseCpuTimes(
    "cpu  100 0 50 850 0 0 0 0 0 0\ncpu0",
    "7 (a b) R 1 1 1 0 0 0 0 0 0 0 10 5 20 5 0",
  );
  expect(before).toEqual({ total: 1000, busy: 150, own: 40 });
  const after = { total: 1200, busy: 300, own: 140 };
  expect(othersShare(before, after)).toBeCloseTo(0.25);
  expect(othersShare(null, after)).toBeNull();
});

test("a program that fails is quoted, and one that is stopped ends", async () => {
  const { signal } = new AbortController();
  await expect(runForJson("it", ["-e", "console.error('why'); process.exit(3)"], signal)).rejects.toThrow(
    /it failed \(exit code 3\):\nwhy/,
  );
  await expect(runForJson("it", ["-e", "console.log('{')"], signal)).rejects.toThrow(
    'printed no JSON but "{"',
  );
  const stop = new AbortController();
  const running = runForJson("it", ["-e", "setInterval(() => {}, 1000)"], stop.signal);
  stop.abort();
  await expect(running).rejects.toThrow("abort");
});

test("options are checked", () => {
  expect(parseOptions(["--help"])).toBeNull();
  expect(parseOptions(["--formats", "q8,int4"])?.formats).toEqual(["q8", "int4"]);
  expect(() => parseOptions(["--formats", "int5"])).toThrow('unknown format "int5"');
  expect(() => parseOptions(["--formats", "q8,q8"])).toThrow("twice");
  expect(() => parseOptions(["--rounds", "0"])).toThrow("--rounds must be an integer from 1");
  expect(() => parseOptions(["--shape", "opt-2b"])).toThrow("use one of");
  expect(() => parseOptions(["--mlp-density", "2"])).toThrow("--mlp-density");
});

test("leaves out engines that lack the shape, and says so when they are named", () => {
  expect(parseOptions([])?.engines).toEqual(["dejavu", "node-llama-cpp", "transformers.js"]);
  expect(parseOptions(["--shape", "tiny"])?.engines).toEqual(["node-llama-cpp", "transformers.js"]);
  expect(() => parseOptions(["--shape", "tiny", "--engines", "dejavu"])).toThrow(
    'dejavu has no shape "tiny"',
  );
});

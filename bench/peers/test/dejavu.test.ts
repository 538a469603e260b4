import { expect, test } from "vitest";
import { type DejavuJob, dejavuCommand, parseDejavu } from "../engines/dejavu.ts";

const job: DejavuJob = {
  shape: "opt-1.3b",
  format: "int4",
  weights: "cache/dejavu-int4",
  threads: 2,
  prompts: [128, 512],
  tokens: 48,
  mlpDensity: 0.095,
  headDensity: 0.5,
};
const rate = (median: number) => ({ median, p25: median, p75: median });
const report = {
  machine: { backend: "native", instructionSet: "avx512" },
  model: { dtype: "int4" },
  threads: 2,
  dense: { tokensPerSecond: rate(20), bytesPerToken: 8e8 },
  sparse: { tokensPerSecond: rate(50), bytesPerToken: 2e8 },
  prompts: [
    { length: 128, tokensPerSecond: rate(90) },
    { length: 512, tokensPerSecond: rate(95) },
  ],
  startSeconds: 2,
  peakResidentBytes: null,
};

test("a report is read", () => {
  const timing = parseDejavu(report, job);
  expect(timing.sparse).toEqual({ decodeTokensPerSecond: 50, bytesPerToken: 2e8 });
  expect(timing.promptTokensPerSecond).toEqual({ 128: 90, 512: 95 });
  expect(timing.peakResidentBytes).toBeNull();
});

test.each([
  ["sparse.tokensPerSecond is not an object", { ...report, sparse: { tokensPerSecond: 5 } }],
  ['dense has no "bytesPerToken"', { ...report, dense: { tokensPerSecond: rate(20) } }],
  ["startSeconds is not a positive number", { ...report, startSeconds: "2" }],
  ["no prompt of 512 tokens", { ...report, prompts: report.prompts.slice(0, 1) }],
  ["ran f16, not int4", { ...report, model: { dtype: "f16" } }],
  ["ran 4 threads, not 2", { ...report, threads: 4 }],
])("%s", (message, broken) => {
  expect(() => parseDejavu(broken, job)).toThrow(message);
});

test("the command asks for the job", () => {
  const command = dejavuCommand(job).join(" ");
  expect(command).toContain(
    "bench --shape opt-1.3b --dtype int4 --tables int4 --mlp-density 0.095 --head-density 0.5",
  );
  expect(command).toContain("--prompt-tokens 128,512 --tokens 48 --threads 2");
  expect(command).toContain("--weights cache/dejavu-int4 --json");
  expect(dejavuCommand({ ...job, prompts: [] }).join(" ")).not.toContain("--prompt-tokens");
});

/** Every instruction set of the native backend against the reference backend, and what only this backend can get wrong. */
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import type { ActiveSet } from "../../src/kernels/contract.ts";
import {
  type InstructionSet,
  NativeUnavailableError,
  nativeInstructionSets,
  openNative,
} from "../../src/kernels/native/native.ts";
import { measureReadBandwidth } from "../../src/kernels/native/probe.ts";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { conformance } from "./conformance.case.ts";
import type { FactorRounding } from "./subject.ts";

/** Half a step of the factors of those that add rows in integers. */
const inBytes = { int4: 2 ** -8 };
const roundings: Partial<Record<InstructionSet, FactorRounding>> = {
  amx: { ...inBytes, int8: 2 ** -15 },
  avx512vnni: { ...inBytes, int8: 2 ** -15 },
  avx2: inBytes,
};

/** The sets to test, or why there are none. */
function available(): readonly InstructionSet[] | string {
  try {
    return nativeInstructionSets();
  } catch (error) {
    if (error instanceof NativeUnavailableError) return error.message;
    throw error;
  }
}

const sets = available();
if (typeof sets === "string") describe.skip(`native kernels: ${sets}`, () => it("is skipped", () => {}));
else {
  for (const instructionSet of sets)
    conformance(
      `native, ${instructionSet}`,
      (threads = 2) => openNative({ instructionSet, threads }),
      openReference,
      3e-6,
      { factorRounding: roundings[instructionSet] ?? {} },
    );
  nativeOnly();
}

function nativeOnly(): void {
  describe("native kernels", () => {
    it("refuse numbers of threads and instruction sets that cannot be", () => {
      for (const threads of [0, -1, 1.5, 257, Number.NaN])
        expect(() => openNative({ threads })).toThrow(/threads/);
      expect(() => openNative({ instructionSet: "mmx" as InstructionSet })).toThrow(/mmx/);
    });

    it("refuse an active set that lists units which are not there, or not in order", async () => {
      const kernels = openNative({ threads: 2 });
      const [x, weight] = [kernels.allocate("f32", [1, 8]), kernels.allocate("f32", [8, 8])];
      const set: ActiveSet = {
        units: 8,
        indices: kernels.allocate("i32", [1, 8]),
        counts: kernels.allocate("i32", [1, 1]),
        slot: 0,
      };
      const zero = kernels.allocate("i32", [1, 1]);
      const place = kernels.allocate("i32", [1]);
      const placement = { sequences: place, positions: place, pages: zero, pageRows: 1 };
      const attempt = async (units: number[], count: number, op: () => void) => {
        kernels.write(set.indices, Int32Array.from(units));
        kernels.write(set.counts, Int32Array.of(count));
        op();
        await kernels.read(x, new Float32Array(8));
      };
      const ops = [
        () => kernels.product(x, 0, x, weight, null, "none", set, 1, 1),
        () => kernels.accumulate(x, x, weight, null, set, 1, 1),
        () => kernels.attention(x, x, weight, weight, set, 1, placement, 1),
        () => kernels.refine(set, set, x, 1),
      ];
      for (const op of ops) {
        await expect(attempt([0, 1, 8], 3, op)).rejects.toThrow(/active set/);
        await expect(attempt([-1, 1, 2], 3, op)).rejects.toThrow(/active set/);
        await expect(attempt([0, 1, 2], 9, op)).rejects.toThrow(/active set/);
        await expect(attempt([0, 1, 2], -1, op)).rejects.toThrow(/active set/);
        await attempt([0, 2, 7], 3, op);
      }
      for (const op of ops.slice(0, 3)) await expect(attempt([2, 1, 3], 3, op)).rejects.toThrow(/active set/);
      kernels.dispose();
    });

    it("refuse to recover what has left the window, or rows that do not follow each other", async () => {
      const kernels = openNative({ threads: 2 });
      const integers = (shape: number[], values: number[]) => {
        const tensor = kernels.allocate("i32", shape);
        kernels.write(tensor, Int32Array.from(values));
        return tensor;
      };
      const [x, weight] = [kernels.allocate("f32", [2, 4]), kernels.allocate("f32", [4, 4])];
      const cache = kernels.allocate("f32", [20, 4]);
      const attempt = async (filled: number[], sequences: number[], positions: number[], pages = [0, 1]) => {
        const recovery = {
          inputs: kernels.allocate("f32", [2 * 3, 4]),
          filled: integers([2, 2], filled),
          refresh: 3,
          counts: integers([1, 2], [0, 0]),
          slot: 0,
        };
        const placement = {
          sequences: integers([2], sequences),
          positions: integers([2], positions),
          pages: integers([2, 1], pages),
          pageRows: 10,
        };
        kernels.write(x, new Float32Array(8).fill(1));
        // biome-ignore format: an argument a line is too long
        kernels.recover(cache, cache, x, weight, null, weight, null, null, 2, recovery, placement, 2);
        const after = new Float32Array(24);
        await kernels.read(recovery.inputs, after);
        return after;
      };
      expect((await attempt([2, 4, 0, 0], [0, 0], [4, 5])).slice(4, 12).every((v) => v === 1)).toBe(true);
      await expect(attempt([1, 4, 0, 0], [0, 0], [4, 5])).rejects.toThrow(/window/);
      await attempt([2 ** 31 - 1, 5, 0, 0], [0, 0], [4, 5]);
      await expect(attempt([-1, 0, 0, 0], [0, 0], [0, 1])).rejects.toThrow(/filled/);
      await expect(attempt([4, 4, 0, 0], [0, 0], [4, 4])).rejects.toThrow(/follow/);
      await expect(attempt([4, 4, 0, 0], [0, 0], [4, 6])).rejects.toThrow(/follow/);
      await expect(attempt([4, 4, 0, 0], [0, 0], [5, 4])).rejects.toThrow(/follow/);
      await expect(attempt([8, 8, 0, 0], [0, 0], [9, 10])).rejects.toThrow(/outside/);
      await expect(attempt([4, 4, 0, 0], [0, 1], [4, 0], [0, 2])).rejects.toThrow(/outside/);
      await expect(attempt([4, 4, 0, 0], [0, 2], [4, 0])).rejects.toThrow(/outside/);
      kernels.dispose();
    });

    it("refuse forked ops that depend on each other, and reading before the join", async () => {
      const kernels = openNative({ threads: 2 });
      const make = () => kernels.allocate("f32", [2, 64]);
      const [x, y, z, weight] = [make(), make(), make(), kernels.allocate("f32", [64, 64])];
      const product = (out: typeof x, input: typeof x) =>
        kernels.product(out, 0, input, weight, null, "none", null, 1, 2);
      const into = new Float32Array(1);
      for (const [second, third] of [
        [z, y],
        [y, x],
        [x, z],
      ] as const) {
        kernels.fork();
        product(y, x);
        product(second, third);
        expect(() => kernels.fork()).toThrow(/join them first/);
        await expect(kernels.read(x, into)).rejects.toThrow(/join them first/);
        kernels.join();
        await expect(kernels.read(x, into)).rejects.toThrow(/depend on each other/);
      }
      kernels.fork();
      product(y, x);
      product(z, x);
      kernels.join();
      await kernels.read(y, into);
      kernels.dispose();
    });

    it("keep backends apart and refuse each other's tensors", async () => {
      const [one, two] = [openNative({ threads: 2 }), openNative({ threads: 3 })];
      const [a, b] = [one.allocate("f32", [1, 4]), two.allocate("f32", [1, 4])];
      expect(() => one.copyRows(a, 0, b, 0, 1)).toThrow(/another backend/);
      one.dispose();
      two.write(b, Float32Array.of(1, 2, 3, 4));
      two.layerNorm(b, b, null, null, 1e-5, 1);
      const out = new Float32Array(4);
      await two.read(b, out);
      expect(out[3]).toBeCloseTo(1.3416, 3);
      expect(() => one.allocate("f32", [1])).toThrow(/disposed/);
      expect(() => one.copyRows(a, 0, a, 0, 1)).toThrow(/disposed/);
      two.dispose();
      two.dispose();
    });

    it("execute more commands than the list holds, in order", async () => {
      const kernels = openNative({ threads: 2 });
      const [sum, one] = [kernels.allocate("f32", [1, 2]), kernels.allocate("f32", [1, 2])];
      const zero = kernels.allocate("i32", [1]);
      kernels.write(one, Float32Array.of(1, 2));
      for (let i = 0; i < 20000; i++) kernels.addRows(sum, one, zero, 0, 1);
      const out = new Float32Array(2);
      await kernels.read(sum, out);
      expect([...out]).toEqual([20000, 40000]);
      kernels.dispose();
    });

    it("share work after all threads have gone to sleep", async () => {
      const kernels = openNative({ threads: 4 });
      const [n, k] = [1024, 256];
      const [x, weight] = [kernels.allocate("f32", [1, k]), kernels.allocate("f32", [n, k])];
      const out = kernels.allocate("f32", [1, n]);
      kernels.write(x, new Float32Array(k).fill(1));
      kernels.write(weight, new Float32Array(n * k).fill(1));
      const host = new Float32Array(n);
      for (let round = 0; round < 20; round++) {
        await new Promise((resolve) => setTimeout(resolve, round % 4));
        for (let i = 0; i < 50; i++) kernels.product(out, 0, x, weight, null, "none", null, 1, 1);
        await kernels.read(out, host);
        expect(host.every((v) => v === k)).toBe(true);
      }
      kernels.dispose();
    });

    it("notice when the memory of a tensor was transferred away", async () => {
      const kernels = openNative({ threads: 1 });
      const tensor = kernels.allocate("f32", [4]);
      const steal = (bytes: Uint8Array) => {
        structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
      };
      await expect(kernels.upload(tensor, steal)).rejects.toThrow(/transferred/);
      kernels.dispose();
    });

    it("end with the worker thread that opened them, disposed of or not", async () => {
      const addon = JSON.stringify(new URL("../../", import.meta.url).pathname);
      const source = `
        const { Engine, instructionSets } = require("node-gyp-build")(${addon});
        new Engine(instructionSets[0], 3, new Int32Array(64), true);
        require("node:worker_threads").parentPort.postMessage("open");`;
      for (let i = 0; i < 3; i++) {
        const worker = new Worker(source, { eval: true });
        expect(await new Promise((resolve) => worker.once("message", resolve))).toBe("open");
        await worker.terminate(); // would hang if a thread of the pool were left
      }
    });

    it("measure how fast memory is read", () => {
      const kernels = openNative({ threads: 2 });
      const rate = measureReadBandwidth(kernels, { bytes: 8 << 20, seconds: 0.01 });
      expect(rate).toBeGreaterThan(0.1);
      expect(rate).toBeLessThan(10000);
      kernels.dispose();
    });
  });
}

/** The slow judge: every op in plain TypeScript, run at once. It stays for ever, and runs where no compiler is. */
import { type Dtype, type HostArray, hostView } from "../../tensor/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as check from "../checks.ts";
import type { Kernels, Phase } from "../contract.ts";
import * as cache from "./cache.ts";
import { convert } from "./convert.ts";
import * as matrix from "./matrix.ts";
import * as rowOps from "./rows.ts";
import { screen } from "./screen.ts";
import * as select from "./select.ts";
import { allocateTensor, dataOf, type ReferenceTensor } from "./tensor.ts";

/** Puts a precondition check before an op that takes the same leading arguments. */
function checked<A extends unknown[]>(before: (...args: A) => void, op: (...args: A) => void) {
  return (...args: A): void => {
    before(...args);
    op(...args);
  };
}

/** Inputs are kept as they are. */
const recoveryColumns: Kernels["recoveryColumns"] = (_weight, d) => d;

export function openReference(): Kernels {
  const tensors = new Set<ReferenceTensor>();
  let seconds: Record<Phase, number> | null = null;
  let lastMark = 0;

  function free(tensor: Tensor): void {
    dataOf(tensor); // throws if it is not ours or was freed already
    const own = tensor as ReferenceTensor;
    own.freed = true;
    own.data = new Uint8Array(0);
    tensors.delete(own);
  }

  const memory = {
    allocate(dtype: Dtype, shape: readonly number[]): Tensor {
      const tensor = allocateTensor(dtype, shape);
      tensors.add(tensor);
      return tensor;
    },
    map: (): null => null,
    async upload(tensor: Tensor, fill: (bytes: Uint8Array) => void | Promise<void>) {
      const data = dataOf(tensor);
      await fill(hostView("u8", data.buffer, data.byteOffset, data.byteLength) as Uint8Array);
    },
    write(tensor: Tensor, values: HostArray, offset = 0) {
      dataOf(tensor).set(values, offset);
    },
    async read(tensor: Tensor, into: HostArray, offset = 0) {
      const data = dataOf(tensor);
      if (offset + into.length > data.length)
        throw new RangeError(`read: ${into.length} elements from ${offset} on, of ${data.length}`);
      into.set(data.subarray(offset, offset + into.length));
    },
    free,
    dispose() {
      for (const tensor of tensors) free(tensor);
    },
  };

  const profile = {
    mark(phase: Phase) {
      if (seconds === null) return;
      const now = performance.now();
      seconds[phase] += (now - lastMark) / 1000;
      lastMark = now;
    },
    startProfile() {
      seconds = { predictor: 0, attention: 0, mlp: 0, output: 0, rest: 0 };
      lastMark = performance.now();
    },
    async stopProfile() {
      const result = seconds;
      if (result === null) throw new Error("stopProfile without startProfile");
      seconds = null;
      return result;
    },
  };

  return {
    name: "reference",
    instructionSet: "javascript",
    threads: 1,
    ...memory,
    ...profile,
    embedding: checked(check.checkEmbedding, rowOps.embedding),
    addRows: checked(check.checkAddRows, rowOps.addRows),
    copyRows: checked(check.checkCopyRows, rowOps.copyRows),
    convert: checked(check.checkConvert, convert),
    transpose: checked(check.checkTranspose, matrix.transpose),
    layerNorm: checked(
      (out, x, w, b, _e, rows) => check.checkLayerNorm(out, x, w, b, rows),
      rowOps.layerNorm,
    ),
    product: checked(
      (out, outRow, x, w, b, _a, set, perUnit, rows) =>
        check.checkProduct(out, outRow, x, w, b, set, perUnit, rows),
      matrix.product,
    ),
    accumulate: checked(check.checkAccumulate, matrix.accumulate),
    storeRows: checked(check.checkStoreRows, cache.storeRows),
    attention: checked(check.checkAttention, cache.attention),
    recoveryColumns,
    recover: checked((...args) => check.checkRecover(recoveryColumns, ...args), cache.recover),
    unite: checked(check.checkUnite, select.unite),
    unitNorms: checked(check.checkUnitNorms, select.unitNorms),
    selectTopK: checked(check.checkTopK, select.selectTopK),
    selectThreshold: checked(
      (set, scores, _t, rows) => check.checkSelect("selectThreshold", set, scores, rows),
      select.selectThreshold,
    ),
    screen: checked(check.checkScreen, screen),
    refine: checked(check.checkRefine, select.refine),
    logSoftmax: checked(check.checkLogSoftmax, rowOps.logSoftmax),
    argmax: checked(check.checkArgmax, select.argmax),
    fork() {},
    join() {},
    record(ops) {
      ops();
      return null;
    },
    replay: () => false,
  };
}

/**
 * The native backend. An op checks its shapes and appends a few words to a command list; the addon executes the list when
 * something is read, written or full. So an op costs tens of nanoseconds here, and its errors may come with the next read.
 */
import type { Dtype, HostArray } from "../../tensor/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as check from "../checks.ts";
import type { Activation, ActiveSet, Kernels, Phase, Placement, Recording, Recovery } from "../contract.ts";
import { phases } from "../contract.ts";
import type { InstructionSet } from "./addon-types.ts";
import { activationNumber, opcode, recoveryColumns } from "./addon-types.ts";
import type { CommandList } from "./command-list.ts";
import { checkTransfer } from "./tensor.ts";

export class NativeKernels implements Kernels {
  readonly name = "native";
  readonly recoveryColumns = recoveryColumns;
  readonly instructionSet: InstructionSet;
  readonly threads: number;
  readonly #list: CommandList;
  #profiling = false;

  constructor(list: CommandList, instructionSet: InstructionSet, threads: number) {
    this.#list = list;
    this.instructionSet = instructionSet;
    this.threads = threads;
  }

  allocate(dtype: Dtype, shape: readonly number[]): Tensor {
    return this.#list.allocate(dtype, shape);
  }

  map(dtype: Dtype, shape: readonly number[], file: string, offset: number): Tensor | null {
    check.checkMap(dtype, shape, offset);
    return this.#list.map(dtype, shape, file, offset);
  }

  async upload(tensor: Tensor, fill: (bytes: Uint8Array) => void | Promise<void>): Promise<void> {
    const { view } = this.#list.own(tensor);
    this.#list.flush();
    const size = view.byteLength;
    await fill(new Uint8Array(view.buffer, view.byteOffset, size));
    // A buffer that was transferred to another thread no longer belongs to the tensor.
    if (view.byteLength !== size) throw new Error("upload: the tensor's memory was transferred away");
  }

  write(tensor: Tensor, values: HostArray, offset = 0): void {
    const { view } = this.#list.own(tensor);
    checkTransfer("write", tensor, view, values, offset);
    this.#list.flush();
    view.set(values, offset);
  }

  async read(tensor: Tensor, into: HostArray, offset = 0): Promise<void> {
    const { view } = this.#list.own(tensor);
    checkTransfer("read", tensor, view, into, offset);
    this.#list.flush();
    into.set(view.subarray(offset, offset + into.length));
  }

  free(tensor: Tensor): void {
    this.#list.free(tensor);
  }

  dispose(): void {
    this.#list.dispose();
  }

  embedding(out: Tensor, table: Tensor, ids: Tensor, rows: number): void {
    check.checkEmbedding(out, table, ids, rows);
    this.#list.begin(opcode.embedding).tensor(out).tensor(table).tensor(ids).word(rows).end();
  }

  addRows(out: Tensor, table: Tensor, indices: Tensor, offset: number, rows: number): void {
    check.checkAddRows(out, table, indices, offset, rows);
    const list = this.#list.begin(opcode.addRows).tensor(out).tensor(table).tensor(indices);
    list.size(offset).word(rows).end();
  }

  storeRows(cache: Tensor, x: Tensor, headDim: number, placement: Placement, rows: number): void {
    check.checkStoreRows(cache, x, headDim, placement, rows);
    const list = this.#list.begin(opcode.storeRows).tensor(cache).tensor(x);
    list.word(headDim).word(rows).placement(placement).end();
  }

  copyRows(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void {
    check.checkCopyRows(out, outRow, x, xRow, rows);
    this.#list.begin(opcode.copyRows).tensor(out).word(outRow).tensor(x).word(xRow).word(rows).end();
  }

  convert(out: Tensor, outRow: number, x: Tensor, xRow: number, rows: number): void {
    check.checkConvert(out, outRow, x, xRow, rows);
    this.#list.begin(opcode.convert).tensor(out).word(outRow).tensor(x).word(xRow).word(rows).end();
  }

  transpose(out: Tensor, x: Tensor, rows: number): void {
    check.checkTranspose(out, x, rows);
    this.#list.begin(opcode.transpose).tensor(out).tensor(x).word(rows).end();
  }

  layerNorm(
    out: Tensor,
    x: Tensor,
    weight: Tensor | null,
    bias: Tensor | null,
    epsilon: number,
    rows: number,
  ): void {
    check.checkLayerNorm(out, x, weight, bias, rows);
    this.#list
      .begin(opcode.layerNorm)
      .tensor(out)
      .tensor(x)
      .tensor(weight)
      .tensor(bias)
      .float(epsilon)
      .word(rows)
      .end();
  }

  product(
    out: Tensor,
    outRow: number,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    activation: Activation,
    set: ActiveSet | null,
    rowsPerUnit: number,
    rows: number,
  ): void {
    check.checkProduct(out, outRow, x, weight, bias, set, rowsPerUnit, rows);
    this.#list
      .begin(opcode.product)
      .tensor(out)
      .word(outRow)
      .tensor(x)
      .tensor(weight)
      .tensor(bias)
      .word(activationNumber[activation])
      .word(rowsPerUnit)
      .word(rows)
      .set(set)
      .end();
  }

  accumulate(
    out: Tensor,
    a: Tensor,
    weight: Tensor,
    bias: Tensor | null,
    set: ActiveSet | null,
    rowsPerUnit: number,
    rows: number,
  ): void {
    check.checkAccumulate(out, a, weight, bias, set, rowsPerUnit, rows);
    this.#list
      .begin(opcode.accumulate)
      .tensor(out)
      .tensor(a)
      .tensor(weight)
      .tensor(bias)
      .word(rowsPerUnit)
      .word(rows)
      .set(set)
      .end();
  }

  attention(
    out: Tensor,
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    heads: ActiveSet | null,
    headDim: number,
    placement: Placement,
    rows: number,
  ): void {
    check.checkAttention(out, q, keys, values, heads, headDim, placement, rows);
    const list = this.#list.begin(opcode.attention).tensor(out).tensor(q).tensor(keys).tensor(values);
    list.word(headDim).word(rows).placement(placement).set(heads).end();
  }

  recover(
    keys: Tensor,
    values: Tensor,
    x: Tensor,
    kWeight: Tensor,
    kBias: Tensor | null,
    vWeight: Tensor,
    vBias: Tensor | null,
    heads: ActiveSet | null,
    headDim: number,
    recovery: Recovery,
    placement: Placement,
    rows: number,
  ): void {
    const { inputs, filled, refresh, counts, slot } = recovery;
    // biome-ignore format: an argument a line is too long
    check.checkRecover(
      recoveryColumns, keys, values, x, kWeight, kBias, vWeight, vBias, heads, headDim, recovery, placement, rows,
    );
    const list = this.#list.begin(opcode.recover).tensor(keys).tensor(values).tensor(x);
    list.tensor(kWeight).tensor(kBias).tensor(vWeight).tensor(vBias).word(headDim);
    list.tensor(inputs).tensor(filled).word(refresh).tensor(counts).word(slot).word(rows);
    list.placement(placement).set(heads).end();
  }

  unitNorms(out: Tensor, x: Tensor, rows: number): void {
    check.checkUnitNorms(out, x, rows);
    this.#list.begin(opcode.unitNorms).tensor(out).tensor(x).word(rows).end();
  }

  selectTopK(set: ActiveSet, scores: Tensor, k: number, rows: number): void {
    check.checkTopK(set, scores, k, rows);
    this.#list.begin(opcode.selectTopK).tensor(scores).word(Math.min(k, set.units)).word(rows).set(set).end();
  }

  selectThreshold(set: ActiveSet, scores: Tensor, threshold: number, rows: number): void {
    check.checkSelect("selectThreshold", set, scores, rows);
    this.#list
      .begin(opcode.selectThreshold)
      .tensor(scores)
      .floatNotAbove(threshold)
      .word(rows)
      .set(set)
      .end();
  }

  screen(
    set: ActiveSet,
    out: Tensor,
    scores: Tensor,
    x: Tensor,
    norms: Tensor,
    k: number,
    rows: number,
  ): void {
    check.checkScreen(set, out, scores, x, norms, k, rows);
    const list = this.#list.begin(opcode.screen).tensor(out).tensor(scores).tensor(x).tensor(norms);
    list.size(k).word(rows).set(set).end();
  }

  refine(out: ActiveSet, set: ActiveSet, values: Tensor, rows: number): void {
    check.checkRefine(out, set, values, rows);
    this.#list.begin(opcode.refine).tensor(values).word(rows).set(out).set(set).end();
  }

  unite(out: ActiveSet, set: ActiveSet, rows: number): void {
    check.checkUnite(out, set, rows);
    this.#list.begin(opcode.unite).word(out.units).word(rows).set(out).set(set).end();
  }

  logSoftmax(out: Tensor, x: Tensor, rows: number): void {
    check.checkLogSoftmax(out, x, rows);
    this.#list.begin(opcode.logSoftmax).tensor(out).tensor(x).word(rows).end();
  }

  argmax(out: Tensor, x: Tensor, rows: number): void {
    check.checkArgmax(out, x, rows);
    this.#list.begin(opcode.argmax).tensor(out).tensor(x).word(rows).end();
  }

  fork(): void {
    this.#list.fork();
  }

  join(): void {
    this.#list.join();
  }

  record(ops: () => void): Recording | null {
    return this.#list.record(ops);
  }

  replay(recording: Recording): boolean {
    return this.#list.replay(recording);
  }

  mark(phase: Phase): void {
    if (this.#profiling) this.#list.begin(opcode.mark).word(phases.indexOf(phase)).end();
  }

  startProfile(): void {
    this.#list.begin(opcode.startProfile).end();
    this.#list.flush(); // now, so that the clock starts with this call
    this.#profiling = true;
  }

  async stopProfile(): Promise<Record<Phase, number>> {
    const seconds = this.#list.flush().seconds();
    this.#profiling = false;
    return Object.fromEntries(phases.map((phase, i) => [phase, seconds[i]!])) as Record<Phase, number>;
  }

  /** Bytes per second that all threads together read from memory; see probe.ts. */
  readBandwidth(bytes: number, seconds: number): number {
    return this.#list.flush().readBandwidth(bytes, seconds);
  }
}

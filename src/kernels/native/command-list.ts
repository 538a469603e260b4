/**
 * The tensors and the command list of one backend. A command is written word by word after `begin` and counts only from
 * `end` on, so that a check that throws in between leaves no half of a command behind. Nothing here allocates per command.
 */
import type { Dtype } from "../../tensor/dtype.ts";
import { hostView, isQuantized } from "../../tensor/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { byteLength, elementCount } from "../../tensor/tensor.ts";
import type { ActiveSet, Placement, Recording } from "../contract.ts";
import type { Addon, Engine, InstructionSet } from "./addon-types.ts";
import { dtypeNumber, opcode } from "./addon-types.ts";
import { NativeTensor } from "./tensor.ts";

const capacity = 16384;
/** No command has more words. */
const longestCommand = 24;
const alignment = 64;
/** Tensors of so many bytes lie in large pages: smaller ones have little use for them. */
const largeBytes = 256 << 10;
const none = -1;

/** Whole commands of a list, and how many tensors had been freed when they were written. */
class RecordedCommands implements Recording {
  readonly isRecording = true;
  readonly list: CommandList;
  readonly words: Int32Array;
  readonly freed: number;

  constructor(list: CommandList, words: Int32Array, freed: number) {
    this.list = list;
    this.words = words;
    this.freed = freed;
  }
}

export class CommandList {
  readonly #words = new Int32Array(capacity);
  /** The same memory, for the bits of floats. */
  readonly #floats = new Float32Array(this.#words.buffer);
  /** Words of whole commands. */
  #length = 0;
  /** Where the next word of the command being written goes. */
  #at = 0;
  #isForked = false;
  /** How often somebody waited for the list, and tensors freed: what no recording may contain, or outlive. */
  #waits = 0;
  #freed = 0;
  readonly #addon: Addon;
  readonly #hugePages: boolean;
  /** Null once disposed of. */
  #engine: Engine | null;

  constructor(addon: Addon, instructionSet: InstructionSet, threads: number, hugePages: boolean) {
    this.#addon = addon;
    this.#hugePages = hugePages;
    this.#engine = new addon.Engine(instructionSet, threads, this.#words, hugePages);
  }

  begin(code: number): this {
    if (this.#engine === null) throw new Error("the kernels have been disposed of");
    if (this.#length + longestCommand > capacity) this.#run(this.#engine);
    this.#words[this.#length] = code;
    this.#at = this.#length + 1;
    return this;
  }

  word(value: number): this {
    this.#words[this.#at++] = value;
    return this;
  }

  float(value: number): this {
    this.#floats[this.#at++] = value;
    return this;
  }

  /** The largest float32 that is not above `value`: any float32 exceeds both or neither. */
  floatNotAbove(value: number): this {
    const at = this.#at;
    this.float(value);
    const rounded = this.#floats[at]!;
    if (!(rounded > value)) return this;
    if (rounded === 0) this.#floats[at] = -(2 ** -149);
    else this.#words[at] = this.#words[at]! + (rounded > 0 ? -1 : 1);
    return this;
  }

  tensor(tensor: Tensor | null): this {
    return this.word(tensor === null ? none : this.own(tensor).id);
  }

  /** A whole number ≥ 0 of which only the size matters once it is beyond every extent. */
  size(value: number): this {
    return this.word(Math.min(value, 2 ** 31 - 1));
  }

  /** Four words: indices, counts, slot, and 1 if shared. */
  set(set: ActiveSet | null): this {
    if (set === null) return this.word(none).word(none).word(0).word(0);
    return this.tensor(set.indices)
      .tensor(set.counts)
      .word(set.slot)
      .word(set.shared ? 1 : 0);
  }

  /** Four words: sequences, positions, pages, rows of a page. */
  placement(placement: Placement): this {
    const { sequences, positions, pages, pageRows } = placement;
    return this.tensor(sequences).tensor(positions).tensor(pages).size(pageRows);
  }

  end(): void {
    this.#length = this.#at;
  }

  fork(): void {
    this.#refuseForked();
    this.begin(opcode.fork).end();
    this.#isForked = true;
  }

  join(): void {
    this.#isForked = false;
    this.begin(opcode.join).end();
  }

  record(ops: () => void): Recording | null {
    this.flush(); // so that the recording has the whole list for itself
    const waits = this.#waits;
    ops();
    this.#refuseForked();
    if (this.#waits !== waits) return null;
    return new RecordedCommands(this, this.#words.slice(0, this.#length), this.#freed);
  }

  replay(recording: Recording): boolean {
    if (!(recording instanceof RecordedCommands) || recording.list !== this)
      throw new Error("the recording belongs to another backend");
    const { words, freed } = recording;
    if (freed !== this.#freed) return false;
    this.#refuseForked();
    if (this.#length + words.length > capacity) this.flush();
    this.#words.set(words, this.#length);
    this.#length += words.length;
    return true;
  }

  /** Executes what has been written. */
  flush(): Engine {
    const engine = this.#engine;
    if (engine === null) throw new Error("the kernels have been disposed of");
    this.#refuseForked();
    this.#run(engine);
    return engine;
  }

  #run(engine: Engine): void {
    const length = this.#length;
    this.#waits++;
    if (length === 0) return;
    this.#length = 0; // a command that fails takes those behind it along
    engine.run(length);
  }

  #refuseForked(): void {
    if (this.#isForked) throw new Error("kernels: the ops are forked; join them first");
  }

  own(tensor: Tensor): NativeTensor {
    if (!(tensor instanceof NativeTensor) || tensor.owner !== this)
      throw new Error("the tensor has been freed, or belongs to another backend");
    return tensor;
  }

  allocate(dtype: Dtype, shape: readonly number[]): NativeTensor {
    for (const extent of shape)
      if (!Number.isSafeInteger(extent) || extent < 0)
        throw new RangeError(`allocate: the shape [${shape.join(", ")}] is not of whole numbers ≥ 0`);
    return this.#add(dtype, shape, this.#memory(byteLength({ dtype, shape })), true);
  }

  /** Room for so many bytes, of zeros. */
  #memory(bytes: number): ArrayBuffer {
    const large = this.#hugePages && bytes >= largeBytes ? this.#addon.largeMemory?.(bytes) : null;
    return large ?? new ArrayBuffer(bytes + alignment);
  }

  /** A tensor over a part of a file; null where files cannot be mapped. */
  map(dtype: Dtype, shape: readonly number[], file: string, offset: number): NativeTensor | null {
    const bytes = byteLength({ dtype, shape });
    if (this.#addon.mapFile === undefined || bytes === 0) return null;
    const part = this.#addon.mapFile(file, offset, bytes);
    return part && this.#add(dtype, shape, part, false);
  }

  #add(dtype: Dtype, shape: readonly number[], buffer: ArrayBuffer, isOurs: boolean): NativeTensor {
    const engine = this.flush(); // word 0 is about to carry the offset
    const bytes = byteLength({ dtype, shape });
    const rows = elementCount(shape.slice(0, -1));
    const id = engine.add(buffer, bytes, dtypeNumber[dtype], rows, shape.at(-1) ?? 1, isOurs);
    const view = hostView(dtype, buffer, this.#words[0]!, isQuantized(dtype) ? bytes : elementCount(shape));
    return new NativeTensor(this, id, dtype, Object.freeze([...shape]), view);
  }

  free(tensor: Tensor): void {
    const own = this.own(tensor);
    this.flush().remove(own.id);
    this.#freed++;
    own.owner = null;
    own.view = own.view.subarray(0, 0);
  }

  dispose(): void {
    this.#engine?.dispose();
    this.#engine = null;
    this.#length = 0;
  }
}

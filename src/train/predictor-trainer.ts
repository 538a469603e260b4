/** The network under training, on a backend: logits, gradients, parameters. Products run on the kernels. */
import type { Activation, Kernels } from "../kernels/contract.ts";
import type { FloatDtype } from "../tensor/dtype.ts";
import { fromFloat32 } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Batch, createBatch, fillBatch } from "./batches.ts";
import type { Parameters } from "./factors.ts";
import type { Rows } from "./rows.ts";

export interface Gradients {
  readonly down: Float32Array | null;
  readonly up: Float32Array;
  readonly bias: Float32Array;
}

/**
 * logits = (x · downᵀ) · upᵀ + bias for batches of `size` rows, and the gradients by hand:
 * dUp = Gᵀ·H, dH = G·Up, dDown = dHᵀ·x, dBias = Σ_rows G, where G = dLoss/dlogits and H = x·downᵀ.
 * With a ReLU between, H = relu(x·downᵀ) and dH is zero where H is.
 */
export class TrainableNetwork {
  readonly size: number;
  readonly batch: Batch;
  readonly logits: Float32Array; // [size, units]
  readonly #kernels: Kernels;
  readonly #units: number;
  readonly #t: Record<string, Tensor>;
  readonly #hasDown: boolean;
  readonly #between: Activation;
  readonly #gradients: Gradients;
  readonly #zeros: Float32Array;

  /**
   * @param dtype of the matrices: f32 to train, f16 to measure what will be stored
   * @param between what stands between the two products; nothing in the predictors that bundles hold
   */
  constructor(
    kernels: Kernels,
    rows: Rows,
    parameters: Parameters,
    size: number,
    dtype: FloatDtype,
    between: Activation = "none",
  ) {
    const { width, units } = rows;
    const { rank, down, up } = parameters;
    const inner = down === null ? width : rank;
    this.size = size;
    this.batch = createBatch(rows, size);
    this.logits = new Float32Array(size * units);
    this.#kernels = kernels;
    this.#units = units;
    this.#hasDown = down !== null;
    this.#between = between;
    const f32 = (...shape: number[]) => kernels.allocate("f32", shape);
    this.#t = {
      x: f32(size, width),
      hidden: f32(size, inner),
      logits: f32(size, units),
      bias: f32(units),
      up: kernels.allocate(dtype, [units, inner]),
      logitsT: f32(units, size),
      dUp: f32(units, inner),
      dHidden: f32(size, inner),
      dHiddenT: f32(inner, size),
      ...(down && { down: kernels.allocate(dtype, [rank, width]), dDown: f32(rank, width) }),
    };
    this.#gradients = {
      down: down && new Float32Array(down.length),
      up: new Float32Array(up.length),
      bias: new Float32Array(units),
    };
    this.#zeros = new Float32Array(Math.max(size * inner, up.length, down?.length ?? 0));
    this.write(parameters);
  }

  /** Takes over changed parameters. */
  write({ down, up, bias }: Parameters): void {
    const { dtype } = this.#t["up"]!;
    if (down) this.#kernels.write(this.#t["down"]!, fromFloat32(dtype as FloatDtype, down));
    this.#kernels.write(this.#t["up"]!, fromFloat32(dtype as FloatDtype, up));
    this.#kernels.write(this.#t["bias"]!, bias);
  }

  /** Computes the logits of the rows numbered `numbers` (at most `size`) into `logits`; targets are in `batch.active`. */
  async forward(rows: Rows, numbers: Int32Array): Promise<void> {
    const k = this.#kernels;
    const { x, hidden, logits, up, bias, down } = this.#t as Record<string, Tensor>;
    const count = numbers.length;
    fillBatch(this.batch, rows, numbers);
    k.write(x!, this.batch.inputs);
    if (this.#hasDown) k.product(hidden!, 0, x!, down!, null, this.#between, null, 1, count);
    k.product(logits!, 0, this.#hasDown ? hidden! : x!, up!, bias!, "none", null, 1, count);
    await k.read(logits!, this.logits.subarray(0, count * this.#units));
  }

  /** Gradients for a full batch, given dLoss/dlogits in `logits`. The arrays are reused. */
  async backward(): Promise<Gradients> {
    const k = this.#kernels;
    const { x, hidden, logits, logitsT, up, dUp, dHidden, dHiddenT, dDown } = this.#t as Record<
      string,
      Tensor
    >;
    const { size } = this;
    const clear = (t: Tensor) => k.write(t, this.#zeros.subarray(0, t.shape[0]! * t.shape[1]!));
    const { bias } = this.#gradients;
    bias.fill(0);
    for (let i = 0; i < this.logits.length; i++) bias[i % this.#units]! += this.logits[i]!;
    k.write(logits!, this.logits);
    k.transpose(logitsT!, logits!, size);
    clear(dUp!);
    k.accumulate(dUp!, logitsT!, this.#hasDown ? hidden! : x!, null, null, 1, this.#units);
    if (this.#hasDown) {
      clear(dHidden!);
      k.accumulate(dHidden!, logits!, up!, null, null, 1, size);
      if (this.#between === "relu") await this.#maskInactive(dHidden!, hidden!);
      k.transpose(dHiddenT!, dHidden!, size);
      clear(dDown!);
      k.accumulate(dDown!, dHiddenT!, x!, null, null, 1, dDown!.shape[0]!);
      await k.read(dDown!, this.#gradients.down!);
    }
    await k.read(dUp!, this.#gradients.up);
    return this.#gradients;
  }

  /** Clears the gradient of what the ReLU cut off. */
  async #maskInactive(gradient: Tensor, values: Tensor): Promise<void> {
    const length = gradient.shape[0]! * gradient.shape[1]!;
    const [g, v] = [new Float32Array(length), new Float32Array(length)];
    await this.#kernels.read(gradient, g);
    await this.#kernels.read(values, v);
    for (let i = 0; i < length; i++) if (v[i]! <= 0) g[i] = 0;
    this.#kernels.write(gradient, g);
  }

  dispose(): void {
    for (const tensor of Object.values(this.#t)) this.#kernels.free(tensor);
  }
}

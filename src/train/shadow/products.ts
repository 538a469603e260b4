/** The two matrix products of a pass forth and back, on the kernels, for arrays of the host. */
import type { Activation, Kernels } from "../../kernels/contract.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { DeviceLinear } from "./checkpoint.ts";

export class Products {
  readonly #kernels: Kernels;
  readonly #maxRows: number;
  readonly #scratch = new Map<string, Tensor>();

  constructor(kernels: Kernels, maxRows: number) {
    this.#kernels = kernels;
    this.#maxRows = maxRows;
  }

  /** activation(x·weightᵀ + bias) for x [rows, in]. */
  async forward(
    x: Float32Array,
    rows: number,
    { weight, bias }: DeviceLinear,
    activation: Activation = "none",
  ): Promise<Float32Array> {
    const [out, width] = weight.shape as [number, number];
    const [input, result] = [this.#buffer("in", width), this.#buffer("out", out)];
    this.#kernels.write(input, x);
    this.#kernels.product(result, 0, input, weight, bias, activation, null, 1, rows);
    return this.#read(result, rows * out);
  }

  /** gradient·weight for a gradient [rows, out]: what the product's input gets. */
  async backward(gradient: Float32Array, rows: number, { weight }: DeviceLinear): Promise<Float32Array> {
    const [out, width] = weight.shape as [number, number];
    const [input, result] = [this.#buffer("in", out), this.#buffer("out", width)];
    this.#kernels.write(input, gradient);
    this.#kernels.write(result, new Float32Array(rows * width));
    this.#kernels.accumulate(result, input, weight, null, null, 1, rows);
    return this.#read(result, rows * width);
  }

  dispose(): void {
    for (const tensor of this.#scratch.values()) this.#kernels.free(tensor);
  }

  async #read(tensor: Tensor, length: number): Promise<Float32Array> {
    const values = new Float32Array(length);
    await this.#kernels.read(tensor, values);
    return values;
  }

  #buffer(use: string, width: number): Tensor {
    const key = `${use} ${width}`;
    let tensor = this.#scratch.get(key);
    if (tensor === undefined) {
      tensor = this.#kernels.allocate("f32", [this.#maxRows, width]);
      this.#scratch.set(key, tensor);
    }
    return tensor;
  }
}

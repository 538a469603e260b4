/** AdamW (Loshchilov & Hutter 2019, algorithm 2) for one array of float32 parameters. */
export class AdamW {
  readonly #first: Float32Array;
  readonly #second: Float32Array;
  readonly #weightDecay: number;
  #step = 0;

  constructor(length: number, weightDecay: number) {
    this.#first = new Float32Array(length);
    this.#second = new Float32Array(length);
    this.#weightDecay = weightDecay;
  }

  /** Moves `parameters` one step against `gradient`. */
  update(parameters: Float32Array, gradient: Float32Array, learningRate: number): void {
    const [beta1, beta2, epsilon] = [0.9, 0.999, 1e-8];
    this.#step += 1;
    const scale1 = 1 / (1 - beta1 ** this.#step);
    const scale2 = 1 / (1 - beta2 ** this.#step);
    const decay = 1 - learningRate * this.#weightDecay;
    for (let i = 0; i < parameters.length; i++) {
      const g = gradient[i]!;
      const m = (this.#first[i] = beta1 * this.#first[i]! + (1 - beta1) * g);
      const v = (this.#second[i] = beta2 * this.#second[i]! + (1 - beta2) * g * g);
      parameters[i] =
        parameters[i]! * decay - (learningRate * m * scale1) / (Math.sqrt(v * scale2) + epsilon);
    }
  }
}

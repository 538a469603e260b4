/**
 * OPT (Zhang et al. 2022): learned positions, pre- or post-norm blocks, ReLU MLP, biases throughout.
 * One forward serves dense, sparse, oracle and capture: what is computed is the selector's affair.
 */
import type { Kernels } from "../kernels/contract.ts";
import { attend } from "../layers/attention.ts";
import type { Linear, Norm } from "../layers/block.ts";
import { feedForward } from "../layers/mlp.ts";
import {
  isWorthScreening,
  makeScreen,
  mostNeeded,
  type Screen,
  screenBytes,
  screenedLogits,
} from "../layers/output-layer.ts";
import type { Selector } from "../sparsity/selector.ts";
import type { WeightDtype } from "../tensor/dtype.ts";
import { byteLength, elementCount, type Tensor } from "../tensor/tensor.ts";
import type { Weights } from "../weights/index.ts";
import type { CheckpointTensors, ReadOptions } from "./checkpoint.ts";
import type { Model, ModelShape, ModelState, Outputs, StateOptions, WeightBytes } from "./model.ts";
import { type OptConfig, parseOptConfig } from "./opt-config.ts";
import { OptState } from "./opt-state.ts";
import { loadOptWeights, type OptWeights, openOptTensors, positionOffset } from "./opt-weights.ts";

/** LayerNorm's epsilon is PyTorch's default; OPT's config does not state one. */
const epsilon = 1e-5;

class OptModel implements Model {
  readonly shape: ModelShape;
  readonly kernels: Kernels;
  readonly parameters: number;
  readonly bytes: number;
  readonly weightBytes: WeightBytes;
  readonly dtype: WeightDtype;
  readonly tables: WeightDtype;
  readonly #config: OptConfig;
  readonly #weights: OptWeights;
  readonly #isScreened: boolean;
  /** Made by the first forward that has use for it: it reads the whole output layer, which loading need not wait for. */
  #screen: Screen | null = null;

  constructor(kernels: Kernels, config: OptConfig, weights: OptWeights) {
    this.#isScreened = isWorthScreening(weights.output);
    this.kernels = kernels;
    this.#config = config;
    this.#weights = weights;
    this.shape = {
      modelType: "opt",
      layers: config.num_hidden_layers,
      hiddenSize: config.hidden_size,
      heads: config.num_attention_heads,
      headDim: config.hidden_size / config.num_attention_heads,
      ffnDim: config.ffn_dim,
      vocabSize: config.vocab_size,
      maxPositions: config.max_position_embeddings,
    };
    this.parameters = weights.all.reduce((sum, tensor) => sum + elementCount(tensor.shape), 0);
    this.bytes = weights.all.reduce((sum, tensor) => sum + byteLength(tensor), 0);
    this.dtype = weights.blocks[0]!.fc1.weight.dtype as WeightDtype;
    this.tables = weights.embedTokens.dtype as WeightDtype;
    this.weightBytes = this.#accountBytes();
  }

  /** A dense token reads every weight once, but of the two tables one row each. */
  #accountBytes(): WeightBytes {
    const { embedTokens, embedPositions, blocks, output } = this.#weights;
    const { fc1, fc2Transposed, query, key, value, outputTransposed } = blocks[0]!;
    const rowBytes = (tensor: Tensor) => byteLength(tensor) / tensor.shape[0]!;
    const { layers, heads, headDim, ffnDim } = this.shape;
    const perHead = headDim * (rowBytes(query.weight) + rowBytes(outputTransposed.weight));
    const perRecovered = headDim * (rowBytes(key.weight) + rowBytes(value.weight));
    const perNeuron = rowBytes(fc1.weight);
    const perActive = rowBytes(fc2Transposed.weight);
    const tables = byteLength(embedPositions) + byteLength(embedTokens);
    const outputs = output === embedTokens ? 0 : byteLength(output);
    const rows = rowBytes(embedPositions) + rowBytes(embedTokens);
    const selectable = layers * (heads * (perHead + perRecovered) + ffnDim * (perNeuron + perActive));
    return {
      always: this.bytes - tables - outputs + rows - selectable,
      perWord: rowBytes(output),
      screen: this.#isScreened ? screenBytes(output) : 0,
      ...{ perHead, perRecovered, perNeuron, perActive },
    };
  }

  neuronRows(layer: number): Linear {
    return this.#weights.blocks[layer]!.fc1;
  }

  createState(options: StateOptions): OptState {
    const { capacity, maxRows } = options;
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > this.shape.maxPositions)
      throw new RangeError(
        `capacity ${capacity} is outside 1 … ${this.shape.maxPositions} (max_position_embeddings)`,
      );
    if (!Number.isInteger(maxRows) || maxRows < 1)
      throw new RangeError(`maxRows ${maxRows} is not at least 1`);
    const { cacheDtype = this.dtype === "f32" ? "f32" : "f16" } = options;
    const all = { ...options, weightDtype: this.dtype, cacheDtype, isScreened: this.#isScreened };
    return new OptState(this.kernels, this.#config, this.shape, all);
  }

  forward(
    anyState: ModelState,
    ids: Int32Array,
    selector: Selector,
    outputs: Outputs,
    sequences?: Int32Array,
  ): void {
    const state = anyState as OptState;
    const rows = ids.length;
    if (rows < 1 || rows > state.maxRows)
      throw new RangeError(`${rows} ids at once; 1 to ${state.maxRows} fit`);
    state.cache.place(rows, sequences ?? null);
    this.kernels.write(state.ids, ids);
    if (state.repeat(selector, rows, outputs)) return;
    state.perform(selector, rows, outputs, () => this.#compute(state, rows, selector, outputs));
  }

  #compute(state: OptState, rows: number, selector: Selector, outputs: Outputs): void {
    const { kernels } = this;
    const { blocks } = this.#weights;
    const { block, buffers } = state;
    const preNorm = this.#config.do_layer_norm_before;
    this.#embed(state, rows);
    block.rows = rows;
    for (let layer = 0; layer < blocks.length; layer++) {
      const weights = blocks[layer]!;
      block.enter(layer, weights);
      this.#enterSublayer(block.attentionInput(), buffers.residual, weights.attentionNorm, rows);
      attend(block, selector);
      if (!preNorm) this.#norm(buffers.residual, buffers.residual, weights.attentionNorm, rows);
      this.#enterSublayer(buffers.mlpInput, buffers.residual, weights.mlpNorm, rows);
      block.mlpInputIsReady();
      feedForward(block, selector);
      if (!preNorm) this.#norm(buffers.residual, buffers.residual, weights.mlpNorm, rows);
      kernels.mark("rest");
    }
    if (outputs !== "none") this.#output(state, rows, outputs === "last");
  }

  dispose(): void {
    for (const tensor of this.#weights.all) this.kernels.free(tensor);
    for (const tensor of Object.values(this.#screen ?? {})) this.kernels.free(tensor);
  }

  /** residual = token embedding (projected where it is narrower) + position embedding. */
  #embed(state: OptState, rows: number): void {
    const { kernels } = this;
    const { embedTokens, embedPositions, projectIn } = this.#weights;
    const { residual } = state.buffers;
    if (projectIn === null) kernels.embedding(residual, embedTokens, state.ids, rows);
    else {
      kernels.embedding(state.embedded, embedTokens, state.ids, rows);
      kernels.product(residual, 0, state.embedded, projectIn, null, "none", null, 1, rows);
    }
    kernels.addRows(residual, embedPositions, state.cache.placement.positions, positionOffset, rows);
  }

  /** A sub-layer's input: the normed residual before it (pre-norm), or the residual as it is (post-norm). */
  #enterSublayer(input: Tensor, residual: Tensor, norm: Norm, rows: number): void {
    if (this.#config.do_layer_norm_before) this.#norm(input, residual, norm, rows);
    else this.kernels.copyRows(input, 0, residual, 0, rows);
    this.kernels.mark("rest");
  }

  #norm(out: Tensor, x: Tensor, norm: Norm, rows: number): void {
    this.kernels.layerNorm(out, x, norm.weight, norm.bias, epsilon, rows);
  }

  #output(state: OptState, rows: number, lastOnly: boolean): void {
    const { kernels } = this;
    const { finalNorm, projectOut, output } = this.#weights;
    const { residual } = state.buffers;
    const count = lastOnly ? 1 : rows;
    let x = residual;
    if (lastOnly) {
      kernels.copyRows(state.last, 0, residual, rows - 1, 1);
      x = state.last;
    }
    if (finalNorm !== null) {
      this.#norm(state.final, x, finalNorm, count);
      x = state.final;
    }
    if (projectOut !== null) {
      kernels.product(state.projected, 0, x, projectOut, null, "none", null, 1, count);
      x = state.projected;
    }
    const { neededLogits, approximate, sets } = state;
    const isScreened = neededLogits <= mostNeeded && approximate !== null && sets.candidates !== null;
    sets.words = isScreened ? sets.candidates : null;
    if (!isScreened) kernels.product(state.logits, 0, x, output, null, "none", null, 1, count);
    else {
      const buffers = { candidates: sets.candidates, approximate };
      this.#screen ??= makeScreen(kernels, output);
      screenedLogits(kernels, state.logits, x, output, this.#screen, buffers, neededLogits, count);
    }
    kernels.mark("output");
  }
}

/** A model of weights that are in memory already; they become its own. */
export const createOpt = (kernels: Kernels, config: OptConfig, weights: OptWeights): Model =>
  new OptModel(kernels, config, weights);

/** Checks the config, then the checkpoint against it, then reads the weights. */
export async function loadOpt(
  kernels: Kernels,
  weights: Weights,
  configJson: unknown,
  configFile: string,
  options: ReadOptions = {},
): Promise<Model> {
  const config = parseOptConfig(configJson, configFile);
  return createOpt(kernels, config, await loadOptWeights(kernels, weights, config, options));
}

/** Checks the same; the tensors can be read one by one. */
export function openOpt(
  kernels: Kernels,
  weights: Weights,
  configJson: unknown,
  configFile: string,
  options: ReadOptions = {},
): CheckpointTensors {
  return openOptTensors(kernels, weights, parseOptConfig(configJson, configFile), options);
}

/** An engine around a synthetic model and predictors of their real sizes: for timing, never for quality. */
import { freemem } from "node:os";
import { type OpenKernelsOptions, openKernels } from "./kernels/open.ts";
import type { Engine } from "./load.ts";
import type { WeightFormat } from "./models/checkpoint.ts";
import { blockRows } from "./models/feed.ts";
import type { Model } from "./models/model.ts";
import type { OptConfig } from "./models/opt-config.ts";
import { type OptShapeName, optShape, publishedLayers } from "./models/opt-shapes.ts";
import { syntheticBytes, syntheticOpt } from "./models/opt-synthetic.ts";
import { RandomWeights } from "./models/random-weights.ts";
import { createRng } from "./sampling/rng.ts";
import { denseSelector } from "./sparsity/dense.ts";
import { densityPolicy, uniformPolicy } from "./sparsity/policy.ts";
import { type Predictor, predictedScorer, predictorDtype } from "./sparsity/predictor.ts";
import { ScoredSelector } from "./sparsity/selector.ts";
import { gigabytes, openSyntheticFolder } from "./synthetic-folder.ts";
import type { WeightDtype } from "./tensor/dtype.ts";
import { byteLength } from "./tensor/tensor.ts";
import { StreamDecoder } from "./text/stream-decoder.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import { UsageError } from "./util/errors.ts";

export interface SyntheticOptions extends OpenKernelsOptions, WeightFormat {
  shape: OptShapeName;
  /** Fewer blocks than the published model has. */
  layers?: number | undefined;
  /** Of the predictors' matrices, but int8 where a lone one would be int4; default int4 with int4 weights, else int8. */
  predictorDtype?: WeightDtype | undefined;
  /** Use weights that lie in this folder, as those of a quantized model do; it is made where there is nothing yet. */
  weights?: string | undefined;
  /** With `weights`: use them in the file (default), or read them into memory first. */
  isMapped?: boolean | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Rank of neuron predictors: Deja Vu's 1000 at OPT-175B's 12288, in proportion, in whole multiples of 32. */
export const predictorRank = (hiddenSize: number): number =>
  Math.max(32, Math.round((hiddenSize * 1000) / 12288 / 32) * 32);

function predictorSizes({ hidden_size: d, ffn_dim: n, num_attention_heads: heads }: OptConfig) {
  const rank = predictorRank(d);
  return { down: [rank, d], up: [rank, n], heads: [heads, d] } as const;
}

/** Room for activations, the cache and the program itself. */
const spareBytes = 1.5e9;

/** @throws UsageError with the figure, when the weights do not fit in memory */
function checkMemory(
  { shape, dtype, tables }: SyntheticOptions,
  config: OptConfig,
  factors: WeightDtype,
): void {
  const { down, up, heads } = predictorSizes(config);
  const layers = config.num_hidden_layers;
  const neurons = [down, up].reduce((sum, shape) => sum + byteLength({ dtype: factors, shape }), 0);
  const ofHeads = byteLength({ dtype: predictorDtype(factors, false), shape: heads });
  const predictors = neurons + ofHeads + 4 * config.ffn_dim;
  const needed = syntheticBytes(config, { dtype, tables }) + layers * predictors + spareBytes;
  const free = freemem();
  if (needed <= free) return;
  const perLayer = predictors + syntheticBytes(config, { dtype, tables }) / (layers + 1);
  const fits = Math.floor((free - spareBytes) / perLayer) - 2;
  throw new UsageError(
    `${shape} in ${dtype} needs ${gigabytes(needed)} of memory and ${gigabytes(free)} are free. ` +
      (fits >= 1
        ? `Time some of its ${publishedLayers(shape)} layers with --layers ${fits}`
        : "Choose a smaller shape"),
  );
}

/** Ids of a synthetic model stand for no text. */
const silentTokenizer: Tokenizer = {
  vocabSize: 0,
  bosId: 2,
  eosId: 2,
  maxTokenBytes: 1,
  encode() {
    throw new UsageError("a synthetic model reads no text; give ids");
  },
  decode: () => "",
  idBytes: () => new Uint8Array(0),
  stream: () => new StreamDecoder(() => new Uint8Array(0)),
};

const noBundle = (): Promise<never> =>
  Promise.reject(new UsageError("a synthetic model has no bundle; give densities"));

/**
 * @throws UsageError when the model does not fit in memory, or `openSyntheticFolder`'s errors; the signal's reason
 */
export async function openSynthetic(options: SyntheticOptions): Promise<Engine> {
  const { onProgress, signal } = options;
  const factors = options.predictorDtype ?? (options.dtype === "int4" ? "int4" : "int8");
  const config = optShape(options.shape, options.layers);
  const { weights, isMapped = true } = options;
  if (weights === undefined || !isMapped) checkMemory(options, config, factors);
  const kernels = await openKernels(options);
  const rng = createRng(0);
  const next = () => rng.next();
  const open = (): Promise<Model> => {
    if (weights !== undefined) return openSyntheticFolder(kernels, weights, config, options);
    return syntheticOpt(kernels, new RandomWeights(kernels, next), config, options, onProgress, signal);
  };
  const model = await open().catch((error: unknown) => {
    kernels.dispose();
    throw error;
  });
  const random = new RandomWeights(kernels, next);
  const { down, up, heads } = predictorSizes(config);
  const predictors = { heads: [] as Predictor[], neurons: [] as Predictor[] };
  for (let layer = 0; layer < model.shape.layers; layer++) {
    predictors.neurons.push({
      source: "attention-input",
      down: await random.matrix(factors, ...down),
      up: await random.matrix(factors, ...up),
      bias: random.vector(up[1], 0),
    });
    predictors.heads.push({
      source: "attention-input",
      down: null,
      up: await random.matrix(predictorDtype(factors, false), ...heads),
      bias: random.vector(heads[0], 0),
    });
  }
  return {
    folder: `${options.shape} (synthetic)`,
    model,
    tokenizer: silentTokenizer,
    kernels,
    bundleFile: "",
    identity: noBundle,
    bundle: noBundle,
    async selector(kind, { mlpDensity = 1, headDensity = 1, attention = "recover", refresh } = {}) {
      if (kind === "dense") return denseSelector;
      if (kind !== "predicted")
        throw new UsageError(`--selector ${kind}: a synthetic model is timed with the predicted selector`);
      const { layers, heads: units, ffnDim } = model.shape;
      const policy = {
        ...uniformPolicy(layers, densityPolicy(headDensity, units), densityPolicy(mlpDensity, ffnDim)),
        attention,
        ...(refresh !== undefined && { refresh }),
      };
      return new ScoredSelector(
        "predicted",
        kernels,
        predictedScorer(kernels, predictors, blockRows),
        policy,
      );
    },
    dispose: () => kernels.dispose(),
    [Symbol.dispose]: () => kernels.dispose(),
  };
}

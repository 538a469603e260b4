/** Folder on disk → an engine: tokenizer, model, kernels, selectors. The only place where the parts are wired together. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Kernels } from "./kernels/contract.ts";
import { type OpenKernelsOptions, openKernels } from "./kernels/open.ts";
import { checkPreparation, readConfig } from "./models/architectures.ts";
import { blockRows } from "./models/feed.ts";
import type { Model } from "./models/model.ts";
import { createRng } from "./sampling/rng.ts";
import { type Bundle, type BundleModel, bundleFileName, loadBundle } from "./sparsity/bundle.ts";
import { choosePolicy, type PolicyOptions } from "./sparsity/choose-policy.ts";
import { denseSelector } from "./sparsity/dense.ts";
import { randomScorer, staticScorer } from "./sparsity/fixed.ts";
import { oracleScorer } from "./sparsity/oracle.ts";
import { predictedScorer } from "./sparsity/predictor.ts";
import {
  ScoredSelector,
  type Scorer,
  type Selector,
  type SelectorKind,
  type Source,
} from "./sparsity/selector.ts";
import { isQuantized, type WeightDtype } from "./tensor/dtype.ts";
import { openTokenizer, type Tokenizer } from "./text/tokenizer.ts";
import { BundleError, UsageError } from "./util/errors.ts";
import { openWeights } from "./weights/index.ts";

/** The model that comes with the package. */
export const bundledModel = fileURLToPath(new URL("../models/stories-4m", import.meta.url));

export interface LoadOptions extends OpenKernelsOptions {
  /** The bundle's file; default: `dejavu-bundle.safetensors` in the model's folder. */
  bundle?: string | undefined;
  /** Format of the weight matrices in memory; default: as they are stored. */
  dtype?: WeightDtype | undefined;
  /** Format of the embeddings and the output layer; default: `dtype`, but int8 with int4. */
  tables?: WeightDtype | undefined;
  /**
   * Whether weights that `quantize` wrote are used where they are in the file, which must then stay as it is; default
   * true. False reads them first, into memory of their own.
   */
  isMapped?: boolean | undefined;
  /** Ends the loading. */
  signal?: AbortSignal | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface SelectorOptions extends PolicyOptions {
  /** Of the random selector. */
  seed?: number | undefined;
  /** The source that the bundle's neuron predictors must have been trained on; another bundle is refused. */
  source?: Source | undefined;
}

export interface Engine {
  readonly folder: string;
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly kernels: Kernels;
  readonly bundleFile: string;
  /** What a bundle must state to be accepted. */
  identity(): Promise<BundleModel>;
  /**
   * The bundle, loaded on first use.
   * @throws BundleError, WeightsError when it is missing or does not belong to this model
   */
  bundle(): Promise<Bundle>;
  /** Makes a selector; `predicted` and `static` need the bundle. Dispose of it after use. */
  selector(kind: SelectorKind, options?: SelectorOptions): Promise<Selector>;
  dispose(): void;
  [Symbol.dispose](): void;
}

async function scorerFor(
  engine: Engine,
  kind: Exclude<SelectorKind, "dense">,
  seed: number,
): Promise<Scorer> {
  const { kernels, model } = engine;
  switch (kind) {
    case "oracle":
      return oracleScorer;
    case "predicted":
      return predictedScorer(kernels, (await engine.bundle()).predictors, blockRows);
    case "static":
      return staticScorer(kernels, (await engine.bundle()).statistics, blockRows);
    case "random": {
      if (!Number.isSafeInteger(seed) || seed < 0)
        throw new UsageError(`seed is ${seed}; it must be an integer from 0 to 2^53 - 1`);
      const rng = createRng(seed);
      const { heads, ffnDim } = model.shape;
      return randomScorer(kernels, { heads, neurons: ffnDim }, blockRows, () => rng.next());
    }
    default:
      return kind satisfies never;
  }
}

async function checkSource(engine: Engine, wanted: Source): Promise<void> {
  const { file, metadata } = await engine.bundle();
  if (metadata.sources.neurons === wanted) return;
  throw new BundleError(
    `${file}: its predictors read ${metadata.sources.neurons}, not ${wanted}. Make one with: dejavu prepare --source ${wanted}`,
  );
}

/**
 * Opens a model folder in Hugging Face's layout: config.json, safetensors weights, tokenizer files.
 * @throws ConfigError, WeightsError, TokenizerError naming the file and what is wrong with it; the signal's reason
 */
export async function load(folder: string = bundledModel, options: LoadOptions = {}): Promise<Engine> {
  const config = await readConfig(join(folder, "config.json"));
  const tokenizer = await openTokenizer(folder);
  const weights = await openWeights(folder);
  const kernels = await openKernels(options).catch(async (error: unknown) => {
    await weights.close();
    throw error;
  });
  let model: Model;
  try {
    checkPreparation(config, weights);
    const { dtype, tables, isMapped, onProgress: onTensor, signal } = options;
    const { architecture, json, file } = config;
    const reading = { dtype, tables, isMapped, onTensor, signal };
    model = await architecture.load(kernels, weights, json, file, reading);
  } catch (error) {
    kernels.dispose();
    throw error;
  } finally {
    await weights.close();
  }
  return createEngine(folder, options.bundle ?? join(folder, bundleFileName), model, tokenizer);
}

function createEngine(folder: string, bundleFile: string, model: Model, tokenizer: Tokenizer): Engine {
  const { kernels, shape } = model;
  let identity: Promise<BundleModel> | undefined;
  let bundle: Promise<Bundle> | undefined;
  const identify = async (): Promise<BundleModel> => {
    const weights = await openWeights(folder);
    try {
      const { modelType, layers, hiddenSize, heads, ffnDim } = shape;
      const fingerprint = weights.prepared?.source ?? (await weights.fingerprint());
      return { fingerprint, modelType, layers, hiddenSize, heads, ffnDim };
    } finally {
      await weights.close();
    }
  };
  const openBundle = async (): Promise<Bundle> => {
    if (!existsSync(bundleFile))
      throw new BundleError(
        `${bundleFile}: there is no bundle. Make one with: dejavu prepare ${folder} --text FILE`,
      );
    // They should not weigh more than what they save, and what quantization takes from them is little (decision 11).
    const dtype = isQuantized(model.dtype) ? model.dtype : undefined;
    return loadBundle(kernels, bundleFile, await engine.identity(), dtype);
  };
  const engine: Engine = {
    folder,
    model,
    tokenizer,
    kernels,
    bundleFile,
    identity: () => (identity ??= identify()),
    bundle() {
      // A failure is not kept: the file may be there, or right, next time.
      bundle ??= openBundle().catch((error: unknown) => {
        bundle = undefined;
        throw error;
      });
      return bundle;
    },
    async selector(kind, selectorOptions = {}) {
      if (kind === "dense") return denseSelector;
      if (selectorOptions.source !== undefined) await checkSource(engine, selectorOptions.source);
      const policy = await choosePolicy(shape, kind, selectorOptions, engine.bundle);
      const scorer = await scorerFor(engine, kind, selectorOptions.seed ?? 0);
      return new ScoredSelector(kind, kernels, scorer, policy);
    },
    dispose: () => kernels.dispose(),
    [Symbol.dispose]: () => kernels.dispose(),
  };
  return engine;
}

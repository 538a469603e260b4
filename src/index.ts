/**
 * Contextual sparsity for language models on the machine you have.
 *
 * ```ts
 * import { generate, load } from "dejavu";
 *
 * using engine = await load(); // the bundled model; or a folder in Hugging Face's layout
 * const selector = await engine.selector("predicted");
 * for await (const { text } of generate(engine, { prompt: "Once upon a time", selector, maxTokens: 64 }))
 *   process.stdout.write(text);
 * ```
 */
export { Batch, type BatchOptions, type BatchToken, generateBatch } from "./batch.ts";
export { type BytesPerToken, bytesPerToken } from "./eval/bytes.ts";
export { type Corpus, readCorpus } from "./eval/documents.ts";
export type { Fidelity } from "./eval/measure.ts";
export { type Score, score } from "./eval/score.ts";
export { type GenerateOptions, type GenerateResult, generate, generateText } from "./generate.ts";
export type { Kernels } from "./kernels/contract.ts";
export { type Backend, backends } from "./kernels/open.ts";
export { bundledModel, type Engine, type LoadOptions, load, type SelectorOptions } from "./load.ts";
export type { Model, ModelShape, ModelState } from "./models/model.ts";
export { type Quantized, type QuantizeOptions, quantize } from "./quantize.ts";
export type { FinishReason, GeneratedToken, RequestOptions } from "./sequence.ts";
export type { BundleMetadata } from "./sparsity/bundle.ts";
export {
  type BlockView,
  type Selector,
  type SelectorKind,
  type Source,
  selectorKinds,
} from "./sparsity/selector.ts";
export { Tally } from "./sparsity/tally.ts";
export type { WeightDtype } from "./tensor/dtype.ts";
export type { Tokenizer } from "./text/tokenizer.ts";
export { prepare } from "./train/prepare.ts";
export type { PrepareOptions, PrepareStage } from "./train/prepare-options.ts";
export * from "./util/errors.ts";
export { version } from "./util/version.ts";

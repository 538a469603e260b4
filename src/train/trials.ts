/** Runs policies on documents before there is a bundle, and counts what that cost. */
import { type Score, score } from "../eval/score.ts";
import type { Engine } from "../load.ts";
import { blockRows } from "../models/feed.ts";
import type { Policy } from "../sparsity/policy.ts";
import { type Predictors, predictedScorer } from "../sparsity/predictor.ts";
import { ScoredSelector } from "../sparsity/selector.ts";

export interface Trial {
  readonly perplexityIncrease: number;
  readonly kl: number;
  readonly bytesPerToken: number;
  readonly mlpBytesPerToken: number;
  readonly score: Score;
}

export class Trials {
  /** Tokens run so far, under a policy or densely beside it. */
  forwardTokens = 0;
  readonly #engine: Engine;
  readonly #predictors: Predictors;
  readonly #signal: AbortSignal | undefined;

  constructor(engine: Engine, predictors: Predictors, signal: AbortSignal | undefined) {
    this.#engine = engine;
    this.#predictors = predictors;
    this.#signal = signal;
  }

  /** @param onShare called with the share of the documents that is done */
  async run(
    policy: Policy,
    documents: readonly Int32Array[],
    onShare: (share: number) => void = () => {},
  ): Promise<Trial> {
    const { kernels } = this.#engine;
    const scorer = predictedScorer(kernels, this.#predictors, blockRows);
    const selector = new ScoredSelector("predicted", kernels, scorer, policy);
    const onProgress = (done: number, total: number) => onShare(done / total);
    const options = { onProgress, signal: this.#signal };
    const result = await score(this.#engine, documents, selector, options).finally(() => selector.dispose());
    this.forwardTokens += 2 * (result.scoredIds + result.documents);
    return {
      perplexityIncrease: result.perplexity / result.densePerplexity - 1,
      kl: result.kl,
      bytesPerToken: result.bytesPerToken.touched,
      mlpBytesPerToken: result.bytesPerToken.mlp.touched,
      score: result,
    };
  }
}

/** Runs policies on documents before there is a bundle, and counts what that cost. */
import { DenseModel, roomToKeep } from "../eval/dense-model.ts";
import { type Score, score } from "../eval/score.ts";
import type { Engine } from "../load.ts";
import { blockRows } from "../models/feed.ts";
import type { Policy } from "../sparsity/policy.ts";
import { type Predictors, predictedScorer } from "../sparsity/predictor.ts";
import { ScoredSelector } from "../sparsity/selector.ts";

export interface Trial {
  readonly policy: Policy;
  readonly perplexityIncrease: number;
  readonly kl: number;
  readonly bytesPerToken: number;
  readonly mlpBytesPerToken: number;
  readonly score: Score;
}

export class Trials {
  readonly #engine: Engine;
  readonly #predictors: Predictors;
  readonly #signal: AbortSignal | undefined;
  /** What trials of the same documents have in common. */
  readonly #shared: { readonly dense: DenseModel; policyTokens: number };

  constructor(engine: Engine, predictors: Predictors, signal: AbortSignal | undefined, beside?: Trials) {
    this.#engine = engine;
    this.#predictors = predictors;
    this.#signal = signal;
    const { maxPositions } = engine.model.shape;
    this.#shared = beside
      ? beside.#shared
      : { dense: new DenseModel(engine, maxPositions, roomToKeep), policyTokens: 0 };
  }

  /** Trials of other predictors, counted together with these. They end with these, too. */
  of(predictors: Predictors): Trials {
    return new Trials(this.#engine, predictors, this.#signal, this);
  }

  /** Tokens run so far, under a policy or densely. */
  get forwardTokens(): number {
    return this.#shared.policyTokens + this.#shared.dense.tokens;
  }

  /** @param onShare called with the share of the documents that is done */
  async run(
    policy: Policy,
    documents: readonly Int32Array[],
    onShare: (share: number) => void = () => {},
  ): Promise<Trial> {
    const { kernels } = this.#engine;
    const { dense } = this.#shared;
    const scorer = predictedScorer(kernels, this.#predictors, blockRows);
    const selector = new ScoredSelector("predicted", kernels, scorer, policy);
    const onProgress = (done: number, total: number) => onShare(done / total);
    const options = { onProgress, signal: this.#signal, dense };
    const result = await score(this.#engine, documents, selector, options).finally(() => selector.dispose());
    const isRecovering = policy.attention === "recover";
    this.#shared.policyTokens += (isRecovering ? 2 : 1) * (result.scoredIds + result.documents);
    return {
      policy,
      perplexityIncrease: result.perplexity / result.densePerplexity - 1,
      kl: result.kl,
      bytesPerToken: result.bytesPerToken.touched,
      mlpBytesPerToken: result.bytesPerToken.mlp.touched,
      score: result,
    };
  }

  /**
   * The same selection with the attention mode that reads fewer bytes; the quality is that of either. Where no head is
   * skipped there is nothing to recover.
   */
  async runCheaperMode(policy: Policy, documents: readonly Int32Array[]): Promise<Trial> {
    const denseKv = await this.run({ ...policy, attention: "dense-kv" }, documents);
    if (policy.heads.every(({ kind }) => kind === "dense")) return denseKv;
    const recovered = await this.run({ ...policy, attention: "recover" }, documents);
    return recovered.bytesPerToken < denseKv.bytesPerToken ? recovered : denseKv;
  }

  dispose(): void {
    this.#shared.dense.dispose();
  }
}

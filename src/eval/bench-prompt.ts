/** Speed of reading prompts, by their length. */
import { generateText } from "../generate.ts";
import type { Engine } from "../load.ts";
import { createRng } from "../sampling/rng.ts";
import { type Spread, spread } from "./bench.ts";

export interface PromptBench {
  /** Ids of the prompt. */
  readonly length: number;
  readonly tokensPerSecond: Spread;
}

export interface PromptBenchOptions {
  readonly lengths: readonly number[];
  /** Rounds counted; one more comes before them to warm up. */
  readonly rounds: number;
  readonly onRound?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Ids drawn at random: time depends on their number alone. */
export function randomIds(vocabSize: number, length: number, seed = 0): number[] {
  const rng = createRng(seed);
  return Array.from({ length }, () => rng.nextInt(vocabSize));
}

/**
 * Reads a prompt of each length in every round. Prompts are always computed densely.
 * @throws ContextOverflowError for a length beyond the context; the signal's reason when aborted
 */
export async function benchPrompts(engine: Engine, options: PromptBenchOptions): Promise<PromptBench[]> {
  const { lengths, rounds, onRound, signal } = options;
  const { vocabSize } = engine.model.shape;
  const speeds = lengths.map((): number[] => []);
  for (let round = 0; round <= rounds; round++) {
    for (const [i, length] of lengths.entries()) {
      const prompt = randomIds(vocabSize, length, round);
      const result = await generateText(engine, { prompt, maxTokens: 1, temperature: 0, signal });
      if (round > 0) speeds[i]!.push(result.prefillTokensPerSecond);
    }
    onRound?.(round + 1, rounds + 1);
  }
  return lengths.map((length, i) => ({ length, tokensPerSecond: spread(speeds[i]!) }));
}

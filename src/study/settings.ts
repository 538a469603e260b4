/** What a study measures on how much text: the numbers that decide how long it takes. */

export interface StudySettings {
  /** Documents that every point of the quality curves is scored on. */
  readonly documents: number;
  /** Documents whose activations are looked at. Many: a batch takes its tokens from different ones. */
  readonly observedDocuments: number;
  /** Ids of an observed document beyond this many are not looked at. */
  readonly observedLength: number;
  /** Shares of the neurons computed, in every layer the same. */
  readonly mlpDensities: readonly number[];
  /** Numbers of heads computed, in every layer the same. */
  readonly headCounts: readonly number[];
  readonly batchSizes: readonly number[];
  /** Batches drawn of each size. */
  readonly draws: number;
  readonly benchTokens: number;
  readonly benchRounds: number;
  readonly seed: number;
}

export const batchSizes = [1, 2, 4, 8, 16, 32, 64] as const;

/** Up to five sizes from few heads to all but some. */
export function headGrid(heads: number): number[] {
  const sizes = [1, 2, 3, 4, 5].map((sixths) => Math.round((heads * sixths) / 6));
  return [...new Set(sizes)].filter((k) => k >= 1 && k < heads);
}

export const defaultDocuments = 20;
const quickDocuments = 3;

export interface SettingsChoice {
  readonly documents?: number | undefined;
  readonly quick?: boolean | undefined;
  readonly seed?: number | undefined;
}

export function studySettings(
  { documents, quick = false, seed = 0 }: SettingsChoice,
  shape: { readonly heads: number },
): StudySettings {
  const scored = documents ?? (quick ? quickDocuments : defaultDocuments);
  return {
    documents: scored,
    observedDocuments: Math.max(scored, batchSizes.at(-1)!),
    observedLength: quick ? 64 : 256,
    mlpDensities: quick ? [0.05, 0.1, 0.2, 0.3, 0.5] : [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7],
    headCounts: headGrid(shape.heads),
    batchSizes,
    draws: quick ? 8 : 64,
    benchTokens: quick ? 16 : 128,
    benchRounds: quick ? 3 : 9,
    seed,
  };
}

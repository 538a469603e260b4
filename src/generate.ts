/** The life of a token: encode → prefill → [decode → sample → emit]*, and nothing else. */
import { createChooser } from "./choose.ts";
import type { Engine } from "./load.ts";
import { feed, promptRows } from "./models/feed.ts";
import { type FinishReason, type GeneratedToken, type RequestOptions, Sequence } from "./sequence.ts";
import { denseSelector } from "./sparsity/dense.ts";
import type { Selector } from "./sparsity/selector.ts";
import { Tally } from "./sparsity/tally.ts";
import { createBreather } from "./util/breathe.ts";

export interface GenerateOptions extends RequestOptions {
  /** Decides what each decoded token computes; default dense. The prompt itself is always computed densely. */
  selector?: Selector | undefined;
  signal?: AbortSignal | undefined;
}

export interface GenerateResult {
  readonly text: string;
  readonly ids: readonly number[];
  readonly promptIds: readonly number[];
  readonly finishReason: FinishReason;
  readonly selector: Selector["kind"];
  /** Shares computed over the decoded tokens; 1 if none was decoded. */
  readonly mlpDensity: number;
  readonly headDensity: number;
  /** Decoding only: forwards per second of work, the caller's time between tokens not counted. */
  readonly tokensPerSecond: number;
  readonly prefillTokensPerSecond: number;
  readonly tally: Tally;
}

/**
 * Generates text token by token. Iterate for the tokens; the generator's return value sums up (see `generateText`).
 * @throws UsageError, ContextOverflowError before any work; the signal's reason when aborted
 */
export async function* generate(
  engine: Engine,
  options: GenerateOptions,
): AsyncGenerator<GeneratedToken, GenerateResult, void> {
  const { model, kernels } = engine;
  const { selector = denseSelector, signal } = options;
  signal?.throwIfAborted();
  const sequence = new Sequence(engine, options);
  const { promptIds } = sequence;
  const { capacity } = sequence;
  const maxRows = Math.min(promptRows, promptIds.length);
  const state = model.createState({ capacity, maxRows, attention: selector.attention });
  const chooser = createChooser(engine, state);
  const tally = new Tally(state.sets);
  const breathe = createBreather(signal);
  const rows = [sequence];
  const input = new Int32Array(1);
  let decodeSeconds = 0;
  try {
    let started = performance.now();
    chooser.announce(rows);
    await feed(model, state, Int32Array.from(promptIds), denseSelector, "last", { signal });
    let [id] = await chooser.choose(rows);
    const prefillSeconds = (performance.now() - started) / 1000;

    while (true) {
      const token = sequence.accept(id!);
      if (token !== null) yield token;
      if (sequence.finishReason !== null) break;
      await breathe();
      started = performance.now();
      input[0] = sequence.lastId;
      model.forward(state, input, selector, "last");
      id = (await chooser.choose(rows))[0];
      await tally.add(kernels, 1);
      decodeSeconds += (performance.now() - started) / 1000;
    }
    const rest = sequence.flush();
    if (rest !== null) yield rest;
    return {
      text: sequence.text,
      ids: sequence.ids,
      promptIds,
      finishReason: sequence.finishReason,
      selector: selector.kind,
      mlpDensity: tally.density("neurons"),
      headDensity: tally.density("heads"),
      tokensPerSecond: decodeSeconds > 0 ? tally.rows / decodeSeconds : 0,
      prefillTokensPerSecond: promptIds.length / prefillSeconds,
      tally,
    };
  } finally {
    chooser.dispose();
    state.dispose();
  }
}

/** Runs `generate` to its end, handing each piece of text to `onText`. */
export async function generateText(
  engine: Engine,
  options: GenerateOptions,
  onText: (text: string) => void = () => {},
): Promise<GenerateResult> {
  const run = generate(engine, options);
  while (true) {
    const { done, value } = await run.next();
    if (done) return value;
    if (value.text !== "") onText(value.text);
  }
}

/** The life of a token: encode → prefill → [decode → sample → emit]*, and nothing else. */
import type { Engine } from "./load.ts";
import { blockRows, feed } from "./models/feed.ts";
import type { ModelState } from "./models/model.ts";
import { createSampler, type Sampler, type SamplingOptions } from "./sampling/sampling.ts";
import { denseSelector } from "./sparsity/dense.ts";
import type { Selector } from "./sparsity/selector.ts";
import { Tally } from "./sparsity/tally.ts";
import { StopMatcher } from "./text/stop-matcher.ts";
import { createBreather } from "./util/breathe.ts";
import { ContextOverflowError, UsageError } from "./util/errors.ts";

export interface GenerateOptions extends SamplingOptions {
  /** Text, or token ids used as they are. */
  prompt: string | readonly number[];
  /** Decides what each decoded token computes; default dense. The prompt itself is always computed densely. */
  selector?: Selector | undefined;
  /** Default: 128, or what the context leaves. */
  maxTokens?: number | undefined;
  /** Generation ends before the first of these strings; they may cross token borders. */
  stop?: readonly string[] | undefined;
  /** `interpret`: special tokens written in the prompt, such as `</s>`, are taken as such. Default: plain text. */
  specialTokens?: "text" | "interpret" | undefined;
  /** Go on past the end-of-sequence token. */
  ignoreEos?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

export interface GeneratedToken {
  readonly id: number;
  /** New text; empty while a character or a possible stop string is incomplete. */
  readonly text: string;
}

export interface GenerateResult {
  readonly text: string;
  readonly ids: readonly number[];
  readonly promptIds: readonly number[];
  /** `stop`: end of sequence or a stop string; `length`: maxTokens or the end of the context. */
  readonly finishReason: "stop" | "length";
  readonly selector: Selector["kind"];
  /** Shares computed over the decoded tokens; 1 if none was decoded. */
  readonly mlpDensity: number;
  readonly headDensity: number;
  /** Decoding only: forwards per second of work, the caller's time between tokens not counted. */
  readonly tokensPerSecond: number;
  readonly prefillTokensPerSecond: number;
  readonly tally: Tally;
}

const defaultMaxTokens = 128;

function encodePrompt(engine: Engine, options: GenerateOptions): number[] {
  const { tokenizer, model } = engine;
  const { prompt } = options;
  const limit = model.shape.maxPositions;
  if (typeof prompt === "string")
    return tokenizer.encode(prompt, { specialTokens: options.specialTokens ?? "text", maxTokens: limit });
  const bad = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= model.shape.vocabSize);
  if (bad !== undefined)
    throw new UsageError(`prompt id ${bad} is outside the vocabulary of ${model.shape.vocabSize}`);
  if (prompt.length === 0)
    throw new UsageError("the prompt has no ids; give at least the beginning-of-sequence id");
  return [...prompt];
}

/** How many tokens to generate at most; never more than the context holds. */
function resolveMaxTokens(wanted: number | undefined, promptTokens: number, limit: number): number {
  if (wanted !== undefined && (!Number.isInteger(wanted) || wanted < 1))
    throw new UsageError(`max tokens is ${wanted}; it must be an integer of at least 1`);
  // The last token generated is never fed back, so it needs no position of its own.
  const room = limit - promptTokens + 1;
  if (room < 1 || (wanted !== undefined && wanted > room))
    throw new ContextOverflowError({ promptTokens, maxTokens: wanted ?? 1, limit });
  return wanted ?? Math.min(defaultMaxTokens, room);
}

/** Returns a function that chooses the next id from row 0 of the state's logits. */
function createChooser(engine: Engine, state: ModelState, sampler: Sampler, history: number[]) {
  const { kernels, model } = engine;
  if (sampler.isArgmax) {
    const id = new Int32Array(1);
    const best = kernels.allocate("i32", [1]);
    const choose = async () => {
      kernels.argmax(best, state.logits, 1);
      await kernels.read(best, id);
      return id[0]!;
    };
    return { choose, dispose: () => kernels.free(best) };
  }
  const logits = new Float32Array(model.shape.vocabSize);
  const choose = async () => {
    await kernels.read(state.logits, logits);
    return sampler.next(logits, history);
  };
  return { choose, dispose() {} };
}

/**
 * Generates text token by token. Iterate for the tokens; the generator's return value sums up (see `generateText`).
 * @throws UsageError, ContextOverflowError before any work; the signal's reason when aborted
 */
export async function* generate(
  engine: Engine,
  options: GenerateOptions,
): AsyncGenerator<GeneratedToken, GenerateResult, void> {
  const { model, tokenizer, kernels } = engine;
  const { selector = denseSelector, signal } = options;
  signal?.throwIfAborted();
  const promptIds = encodePrompt(engine, options);
  const maxTokens = resolveMaxTokens(options.maxTokens, promptIds.length, model.shape.maxPositions);
  const stops = new StopMatcher(options.stop ?? []);
  const sampler = createSampler(options, model.shape.vocabSize);
  const stream = tokenizer.stream();
  const ids: number[] = [];
  const history = [...promptIds];
  const state = model.createState({
    capacity: promptIds.length + maxTokens - 1,
    maxRows: blockRows,
    attention: selector.attention,
  });
  const chooser = createChooser(engine, state, sampler, history);
  const tally = new Tally(state.sets);
  const breathe = createBreather(signal);
  const input = new Int32Array(1);
  let text = "";
  let finishReason: "stop" | "length" = "length";
  let decodeSeconds = 0;
  try {
    let started = performance.now();
    await feed(model, state, Int32Array.from(promptIds), denseSelector, "last", undefined, signal);
    let id = await chooser.choose();
    const prefillSeconds = (performance.now() - started) / 1000;

    while (true) {
      if (id === tokenizer.eosId && !options.ignoreEos) finishReason = "stop";
      else {
        ids.push(id);
        history.push(id);
        const match = stops.push(stream.push(id));
        text += match.text;
        yield { id, text: match.text };
        if (match.stopped) finishReason = "stop";
      }
      if (finishReason === "stop" || ids.length === maxTokens) break;
      await breathe();
      started = performance.now();
      input[0] = id;
      model.forward(state, input, selector, "last");
      id = await chooser.choose();
      await tally.add(kernels, 1);
      decodeSeconds += (performance.now() - started) / 1000;
    }

    if (!stops.stopped) {
      // What was held back as the possible start of a stop string, or as part of a character, is text after all.
      const match = stops.push(stream.end());
      const rest = match.text + stops.end();
      if (rest !== "") {
        text += rest;
        yield { id: ids.at(-1)!, text: rest };
      }
    }
    return {
      text,
      ids,
      promptIds,
      finishReason,
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

/** One request on its way through generation: what was asked, what has come so far, and when it ends. */
import type { Engine } from "./load.ts";
import { createSampler, type Sampler, type SamplingOptions } from "./sampling/sampling.ts";
import { StopMatcher } from "./text/stop-matcher.ts";
import type { StreamDecoder } from "./text/stream-decoder.ts";
import { ContextOverflowError, UsageError } from "./util/errors.ts";

export interface RequestOptions extends SamplingOptions {
  /** Text, or token ids used as they are. */
  prompt: string | readonly number[];
  /** Default: 128, or what the context leaves. */
  maxTokens?: number | undefined;
  /** Generation ends before the first of these strings; they may cross token borders. */
  stop?: readonly string[] | undefined;
  /** `interpret`: special tokens written in the prompt, such as `</s>`, are taken as such. Default: plain text. */
  specialTokens?: "text" | "interpret" | undefined;
  /** Go on past the end-of-sequence token. */
  ignoreEos?: boolean | undefined;
}

export interface GeneratedToken {
  readonly id: number;
  /** New text; empty while a character or a possible stop string is incomplete. */
  readonly text: string;
}

/** `stop`: end of sequence or a stop string; `length`: maxTokens or the end of the context. */
export type FinishReason = "stop" | "length";

const defaultMaxTokens = 128;

function encodePrompt(engine: Engine, options: RequestOptions): number[] {
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

export class Sequence {
  readonly promptIds: readonly number[];
  readonly maxTokens: number;
  readonly sampler: Sampler;
  /** Ids generated so far. */
  readonly ids: number[] = [];
  /** Prompt and generated ids: what penalties look at. */
  readonly history: number[];
  text = "";
  /** Null while it goes on. */
  finishReason: FinishReason | null = null;
  readonly #eosId: number | null;
  readonly #stops: StopMatcher;
  readonly #stream: StreamDecoder;

  /** @throws UsageError, ContextOverflowError, before any work */
  constructor(engine: Engine, options: RequestOptions) {
    const { tokenizer, model } = engine;
    this.promptIds = encodePrompt(engine, options);
    this.maxTokens = resolveMaxTokens(options.maxTokens, this.promptIds.length, model.shape.maxPositions);
    this.sampler = createSampler(options, model.shape.vocabSize);
    this.history = [...this.promptIds];
    this.#eosId = options.ignoreEos ? null : tokenizer.eosId;
    this.#stops = new StopMatcher(options.stop ?? []);
    this.#stream = tokenizer.stream();
  }

  /** Positions that the cache must hold for it. */
  get capacity(): number {
    return this.promptIds.length + this.maxTokens - 1;
  }

  /** The id that the next forward is fed. */
  get lastId(): number {
    return this.history[this.history.length - 1]!;
  }

  /** Takes the next id in; null if it was the end-of-sequence token. Sets `finishReason` when this was the last. */
  accept(id: number): GeneratedToken | null {
    if (id === this.#eosId) {
      this.finishReason = "stop";
      return null;
    }
    this.ids.push(id);
    this.history.push(id);
    const { text, stopped } = this.#stops.push(this.#stream.push(id));
    this.text += text;
    if (stopped) this.finishReason = "stop";
    else if (this.ids.length === this.maxTokens) this.finishReason = "length";
    return { id, text };
  }

  /** After the last id: what was held back as part of a character or the possible start of a stop string is text after all. */
  flush(): GeneratedToken | null {
    if (this.#stops.stopped) return null;
    const text = this.#stops.push(this.#stream.end()).text + this.#stops.end();
    if (text === "") return null;
    this.text += text;
    return { id: this.ids.at(-1)!, text };
  }
}

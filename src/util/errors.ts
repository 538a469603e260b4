/**
 * The errors that a caller may expect and catch by class. Whatever else is thrown is a mistake in the program.
 * Every message says what is wrong, where, and, if something can be done about it, what.
 */

/** The root of all expected errors. */
export class DejavuError extends Error {
  override readonly name: string = "DejavuError";
}

/** A reason as a sentence, followed by what to do about it. */
function sentences(reason: string, remedy: string | undefined): string {
  return remedy === undefined ? reason : `${reason}. ${remedy}`;
}

export interface WeightsFault {
  readonly file: string;
  readonly tensor?: string | undefined;
  /** What is wrong, without a full stop. */
  readonly reason: string;
  /** What to do about it, as a sentence. */
  readonly remedy?: string | undefined;
}

/** A weights file that is absent, broken, or not what the model needs. */
export class WeightsError extends DejavuError {
  override readonly name = "WeightsError";
  readonly file: string;
  readonly tensor: string | undefined;
  readonly reason: string;

  constructor(fault: WeightsFault, options?: ErrorOptions) {
    const where =
      fault.tensor === undefined ? fault.file : `${fault.file}: tensor ${JSON.stringify(fault.tensor)}`;
    super(`${where}: ${sentences(fault.reason, fault.remedy)}`, options);
    this.file = fault.file;
    this.tensor = fault.tensor;
    this.reason = fault.reason;
  }
}

/** Tokenizer files that are absent or contradict themselves. */
export class TokenizerError extends DejavuError {
  override readonly name = "TokenizerError";
  readonly file: string;
  readonly reason: string;

  constructor(file: string, reason: string, remedy?: string, options?: ErrorOptions) {
    super(`${file}: ${sentences(reason, remedy)}`, options);
    this.file = file;
    this.reason = reason;
  }
}

/** A model configuration that is absent, out of range, or of a kind that is not supported. */
export class ConfigError extends DejavuError {
  override readonly name = "ConfigError";
}

/** A bundle of predictors that is broken or belongs to other weights. */
export class BundleError extends DejavuError {
  override readonly name = "BundleError";
}

/** An option or argument that makes no sense; the message names the option and the value given. */
export class UsageError extends DejavuError {
  override readonly name = "UsageError";
}

export interface ContextOverflow {
  /** Tokens of the prompt. */
  readonly promptTokens: number;
  /** Tokens asked for beyond the prompt. */
  readonly maxTokens: number;
  /** Tokens that fit. */
  readonly limit: number;
  /** True if the prompt was not tokenized because even `promptTokens`, a lower bound, is too many. */
  readonly atLeast?: boolean;
}

/** A prompt, with what is to follow it, that exceeds the context. */
export class ContextOverflowError extends DejavuError {
  override readonly name = "ContextOverflowError";
  readonly promptTokens: number;
  readonly maxTokens: number;
  readonly limit: number;

  constructor({ promptTokens, maxTokens, limit, atLeast = false }: ContextOverflow) {
    const prompt = `The prompt has ${atLeast ? "at least " : ""}${promptTokens} tokens`;
    const wanted = maxTokens > 0 ? `${prompt} and ${maxTokens} more are asked for` : prompt;
    super(
      `${wanted}, but only ${limit} fit. Shorten the prompt${maxTokens > 0 ? " or ask for fewer tokens" : ""}.`,
    );
    this.promptTokens = promptTokens;
    this.maxTokens = maxTokens;
    this.limit = limit;
  }
}

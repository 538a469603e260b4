/** Prompt → ids → text. */
export { StopMatcher } from "./stop-matcher.ts";
export { StreamDecoder } from "./stream-decoder.ts";
export { type DecodeOptions, type EncodeOptions, openTokenizer, type Tokenizer } from "./tokenizer.ts";

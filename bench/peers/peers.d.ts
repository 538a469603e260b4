/**
 * The parts of the two peers that are used here. They are declared, not imported, so that the repository's type check
 * passes where the peers are not installed.
 */

declare module "node-llama-cpp" {
  export type Token = number;
  export interface LlamaContextSequence {
    evaluate(
      tokens: readonly Token[],
      options: { temperature: number; yieldEogToken: boolean },
    ): AsyncGenerator<Token, void, void>;
    clearHistory(): Promise<void>;
  }
  export interface LlamaContext {
    readonly currentThreads: number;
    getSequence(): LlamaContextSequence;
    dispose(): Promise<void>;
  }
  export interface LlamaModel {
    createContext(options: {
      contextSize: number;
      batchSize: number;
      threads: { ideal: number; min: number };
    }): Promise<LlamaContext>;
    dispose(): Promise<void>;
  }
  export interface Llama {
    readonly systemInfo: string;
    loadModel(options: { modelPath: string }): Promise<LlamaModel>;
    dispose(): Promise<void>;
  }
  export function getLlama(options: {
    gpu: false;
    build: "never";
    skipDownload: true;
    maxThreads: number;
    logLevel: "debug";
    logger: (level: string, message: string) => void;
  }): Promise<Llama>;
}

declare module "@huggingface/transformers" {
  export const env: { version: string; allowRemoteModels: boolean; localModelPath: string };
  export class Tensor {
    constructor(type: "int64", data: BigInt64Array, dimensions: readonly number[]);
  }
  export interface CausalLanguageModel {
    generate(options: {
      input_ids: Tensor;
      attention_mask: Tensor;
      max_new_tokens: number;
      do_sample: false;
      eos_token_id: null;
      streamer: { put(ids: bigint[][]): void; end(): void };
    }): Promise<unknown>;
    dispose(): Promise<unknown>;
  }
  export const AutoModelForCausalLM: {
    from_pretrained(
      name: string,
      options: {
        dtype: "q4" | "q8" | "fp16";
        device: "cpu";
        session_options: {
          intraOpNumThreads: number;
          interOpNumThreads: number;
          graphOptimizationLevel: "all";
        };
      },
    ): Promise<CausalLanguageModel>;
  };
}

/** transformers.js: `AutoModelForCausalLM` and `generate`, on the CPU of onnxruntime-node. */
import { basename, dirname } from "node:path";
import { onnxDtypes } from "../checkpoints/opt-onnx.ts";
import type { Contender, Job } from "./job.ts";

export async function open({ checkpoint, format, threads }: Job): Promise<Contender> {
  const { AutoModelForCausalLM, env, Tensor } = await import("@huggingface/transformers");
  env.allowRemoteModels = false;
  env.localModelPath = dirname(checkpoint);
  const dtype = onnxDtypes[format];
  const model = await AutoModelForCausalLM.from_pretrained(basename(checkpoint), {
    dtype,
    device: "cpu",
    session_options: { intraOpNumThreads: threads, interOpNumThreads: 1, graphOptimizationLevel: "all" },
  });

  /** `performance.now()` at each new token; greedy. */
  const generate = async (ids: readonly number[], count: number): Promise<number[]> => {
    const times: number[] = [];
    const dimensions = [1, ids.length];
    let isPrompt = true;
    const put = () => {
      if (!isPrompt) times.push(performance.now());
      isPrompt = false; // the first that a streamer gets is the prompt
    };
    await model.generate({
      input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), dimensions),
      attention_mask: new Tensor("int64", new BigInt64Array(ids.length).fill(1n), dimensions),
      max_new_tokens: count,
      do_sample: false,
      eos_token_id: null,
      streamer: { put, end: () => {} },
    });
    return times;
  };

  return {
    details: `transformers.js ${env.version}: onnxruntime-node, CPU, ${dtype}`,
    async prompt(ids) {
      const start = performance.now();
      const [first] = await generate(ids, 1);
      return (first! - start) / 1000;
    },
    decode: generate,
    dispose: async () => void (await model.dispose()),
  };
}

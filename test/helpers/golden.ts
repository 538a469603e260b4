/** The values that an independent float64 implementation computed for stories-4m. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { elementCount } from "../../src/tensor/tensor.ts";
import { openSafetensors } from "../../src/weights/index.ts";

const path = (name: string) => fileURLToPath(new URL(`../golden/${name}`, import.meta.url));

export interface GoldenCase {
  prompt: string;
  ids: number[];
  top10: [number, number][];
  greedy64: number[];
  greedy_text: string;
}

interface Golden {
  cases: GoldenCase[];
  valid: {
    documents: number;
    scored_ids: number;
    perplexity: number;
    nll_per_document: number[];
    active_neuron_share_per_layer: number[];
  };
  tokenizer: { text: string; ids: number[] }[];
}

export const golden: Golden = JSON.parse(readFileSync(path("stories-4m.json"), "utf8"));

/** A float32 tensor of the golden file, with its shape. */
export async function goldenTensor(
  name: string,
): Promise<{ shape: readonly number[]; values: Float32Array }> {
  const file = await openSafetensors(path("stories-4m.safetensors"));
  try {
    const { shape } = file.tensors.get(name)!;
    const bytes = new Uint8Array(elementCount(shape) * 4);
    await file.read(name, bytes);
    return { shape, values: new Float32Array(bytes.buffer) };
  } finally {
    await file.close();
  }
}

export const storiesFolder = fileURLToPath(new URL("../../models/stories-4m", import.meta.url));

/** Largest absolute difference. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths differ: ${a.length} and ${b.length}`);
  let max = 0;
  for (let i = 0; i < a.length; i++) max = Math.max(max, Math.abs(a[i]! - b[i]!));
  return max;
}

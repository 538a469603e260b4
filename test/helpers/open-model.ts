import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Kernels } from "../../src/kernels/contract.ts";
import type { Model } from "../../src/models/model.ts";
import { loadOpt } from "../../src/models/opt.ts";
import { openWeights } from "../../src/weights/index.ts";

/** A model without tokenizer or bundle, for tests of the forward. */
export async function openModel(kernels: Kernels, folder: string): Promise<Model> {
  const configFile = join(folder, "config.json");
  const weights = await openWeights(folder);
  try {
    return await loadOpt(kernels, weights, JSON.parse(readFileSync(configFile, "utf8")), configFile);
  } finally {
    await weights.close();
  }
}

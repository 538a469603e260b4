/** Random weights of a published shape in a folder, as `quantize` writes them, so that what is used in a file can be timed. */
import { statfs, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Kernels } from "./kernels/contract.ts";
import { dtypeFor, type ReadOptions, type WeightFormat } from "./models/checkpoint.ts";
import type { Model } from "./models/model.ts";
import { createOpt } from "./models/opt.ts";
import type { OptConfig } from "./models/opt-config.ts";
import { syntheticBytes, syntheticTensors } from "./models/opt-synthetic.ts";
import { loadOptWeights } from "./models/opt-weights.ts";
import { RandomWeights } from "./models/random-weights.ts";
import { writePreparedWeights } from "./quantize.ts";
import { createRng } from "./sampling/rng.ts";
import { UsageError } from "./util/errors.ts";
import { makeNamedFolder, namesIn } from "./util/make-folder.ts";
import { openWeights, type Weights } from "./weights/index.ts";
import { writeFolder } from "./weights/staged-folder.ts";

/** What the file says that it was made from: nothing has this fingerprint. */
const noSource = "0".repeat(64);

interface Options extends WeightFormat, Pick<ReadOptions, "isMapped" | "signal"> {
  onProgress?: ((done: number, total: number) => void) | undefined;
}

/** Whether there is nothing at this place, or an empty folder. */
async function isVacant(folder: string): Promise<boolean> {
  const names = await namesIn(folder, (reason) => `${folder}: ${reason}; name a folder`);
  return names === null || names.length === 0;
}

export const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** @throws UsageError when there can be no such folder, and with the figures when the disk has no room */
async function checkRoom(folder: string, bytes: number): Promise<void> {
  await makeNamedFolder(folder, folder);
  const { bavail, bsize } = await statfs(folder);
  if (bytes > bavail * bsize)
    throw new UsageError(
      `${folder} has ${gigabytes(bavail * bsize)} free and the weights take ${gigabytes(bytes)}: name a folder with more room, or fewer layers`,
    );
}

async function write(kernels: Kernels, folder: string, config: OptConfig, options: Options): Promise<void> {
  await checkRoom(dirname(resolve(folder)), syntheticBytes(config, options));
  const rng = createRng(0);
  const random = new RandomWeights(kernels, () => rng.next());
  const tensors = syntheticTensors(random, config, options, options.signal);
  await writeFolder(folder, async (temporary) => {
    await writeFile(join(temporary, "config.json"), `${JSON.stringify(config)}\n`);
    await writePreparedWeights(kernels, tensors, noSource, join(temporary, "model.safetensors"), options);
  });
}

/** @throws UsageError when the folder holds something else than random weights in this format */
function checkOurs(folder: string, { prepared }: Weights, format: WeightFormat): void {
  if (prepared?.source !== noSource)
    throw new UsageError(
      `${folder}: holds weights that are not random ones made for timing; name another folder`,
    );
  const named = (one: WeightFormat) => `${one.dtype} with tables in ${dtypeFor("table", one)}`;
  if (named(prepared) !== named(format))
    throw new UsageError(`${folder}: holds ${named(prepared)}, not ${named(format)}; name another folder`);
}

/**
 * Opens the weights in a folder, which is made first where there is nothing yet.
 * @throws UsageError when the folder holds something else, or the disk has no room; WeightsError when it holds another
 * shape; the signal's reason
 */
export async function openSyntheticFolder(
  kernels: Kernels,
  folder: string,
  config: OptConfig,
  options: Options,
): Promise<Model> {
  if (await isVacant(folder)) await write(kernels, folder, config, options);
  const weights = await openWeights(folder);
  try {
    checkOurs(folder, weights, options);
    const { isMapped, signal } = options;
    return createOpt(kernels, config, await loadOptWeights(kernels, weights, config, { isMapped, signal }));
  } finally {
    await weights.close();
  }
}

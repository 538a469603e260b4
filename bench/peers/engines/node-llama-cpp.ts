/** node-llama-cpp: its prebuilt llama.cpp without a GPU, through the calls that its chat sessions are made of. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { type Contender, contextFor, type Job } from "./job.ts";

/** Greedy; an end-of-text token is a token like any other. */
const options = { temperature: 0, yieldEogToken: true };

function version(): string {
  const manifest = new URL("../package.json", import.meta.resolve("node-llama-cpp"));
  return String(JSON.parse(readFileSync(fileURLToPath(manifest), "utf8")).version);
}

/** The library of the CPU that llama.cpp loaded, and the memory of its own that it repacked weights into. */
function chosenPath(log: string): string {
  const library = log.match(/loaded CPU backend from (\S+)/)?.[1] ?? "an unknown library";
  const buffers = [...log.matchAll(/load_tensors:\s+(\S+) model buffer size/g)].map((match) => match[1]!);
  return `${basename(library)}, weights in ${[...new Set(buffers)].join(" and ")}`;
}

export async function open(job: Job): Promise<Contender> {
  const { getLlama } = await import("node-llama-cpp");
  let log = "";
  const logger = (_: string, message: string) => {
    log += `${message}\n`;
  };
  const { threads } = job;
  const llama = await getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    maxThreads: threads,
    logLevel: "debug",
    logger,
  });
  const model = await llama.loadModel({ modelPath: job.checkpoint });
  const context = await model.createContext({
    contextSize: contextFor(job),
    batchSize: Math.max(...job.prompts),
    threads: { ideal: threads, min: threads },
  });
  const details = `node-llama-cpp ${version()}: ${chosenPath(log)}`;
  const sequence = context.getSequence();
  return {
    details,
    async prompt(ids) {
      await sequence.clearHistory();
      const start = performance.now();
      const tokens = sequence.evaluate(ids, options);
      await tokens.next();
      const seconds = (performance.now() - start) / 1000;
      await tokens.return();
      return seconds;
    },
    async decode(ids, count) {
      await sequence.clearHistory();
      const times: number[] = [];
      for await (const _ of sequence.evaluate(ids, options)) {
        times.push(performance.now());
        if (times.length === count) break;
      }
      return times;
    },
    dispose: () => llama.dispose(),
  };
}

/** The process of one peer: a job as JSON in its argument, a `Timing` as one line of JSON on stdout. */
import { type Contender, type Job, type PeerName, time } from "./job.ts";

const openers: Record<PeerName, () => Promise<{ open(job: Job): Promise<Contender> }>> = {
  "node-llama-cpp": () => import("./node-llama-cpp.ts"),
  "transformers.js": () => import("./transformers.ts"),
};

const job: Job = JSON.parse(process.argv[2]!);
const { open } = await openers[job.engine]();
const timing = await time(job, open);
// The libraries may leave threads behind that keep the process alive.
process.stdout.write(`${JSON.stringify(timing)}\n`, () => process.exit(0));

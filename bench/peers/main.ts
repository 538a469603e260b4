/** `npm run peers`: writes what the peers need, runs all engines in turn for some rounds, prints one table. */
import { writeFileSync } from "node:fs";
import { checkpointOf, writeMissing } from "./checkpoints/store.ts";
import { type PeerName, peerNames } from "./engines/job.ts";
import {
  dejavuEntrant,
  type Entrant,
  type Measurement,
  measureBandwidth,
  ownCheckpoint,
  peerEntrant,
  requireInstalled,
} from "./run/measure.ts";
import { help, type Options, parseOptions } from "./run/options.ts";
import { describeMachine, type Report, renderMeasurement, renderReport } from "./run/report.ts";

const say = (text: string) => void process.stderr.write(`${text}\n`);

/** Writes the checkpoints that are missing. */
async function prepare(options: Options, signal: AbortSignal): Promise<Entrant[]> {
  const { cache, shape, formats, engines } = options;
  const peers = peerNames.filter((name: PeerName) => engines.includes(name));
  const checkpoints = formats.flatMap((format) =>
    peers.map((peer) => checkpointOf(cache, shape, peer, format)),
  );
  const own = engines.includes("dejavu") ? formats.map((format) => ownCheckpoint(format, options)) : [];
  await writeMissing(cache, [...own, ...checkpoints], say, signal);
  const ours = own.map((checkpoint) => dejavuEntrant(checkpoint, options));
  const entrants = [...ours, ...checkpoints.map((checkpoint) => peerEntrant(checkpoint, options))];
  return entrants.sort((a, b) => formats.indexOf(a.format) - formats.indexOf(b.format));
}

/** All engines in turn, round by round; every round starts with another one, so that none is always first. */
async function compare(entrants: readonly Entrant[], options: Options, signal: AbortSignal): Promise<Report> {
  const { rounds, threads } = options;
  const readBandwidth: number[] = [];
  const measurements: Measurement[] = [];
  for (let round = 0; round < rounds; round++) {
    readBandwidth.push(await measureBandwidth(threads, signal));
    for (let turn = 0; turn < entrants.length; turn++) {
      const entrant = entrants[(round + turn) % entrants.length]!;
      say(`round ${round + 1} of ${rounds}: ${entrant.engine} ${entrant.format}`);
      const taken = await entrant.measure(round, signal);
      for (const one of taken) say(`  ${renderMeasurement(one)}`);
      measurements.push(...taken);
    }
  }
  return { machine: describeMachine(), options, readBandwidth, measurements };
}

async function main(signal: AbortSignal): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (!options) {
    process.stdout.write(`${help}\n`);
    return;
  }
  requireInstalled(options.engines);
  const report = await compare(await prepare(options, signal), options, signal);
  if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  process.stdout.write(`${renderReport(report)}\n`);
}

const controller = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => controller.abort());
try {
  await main(controller.signal);
} catch (error) {
  say(controller.signal.aborted ? "stopped" : error instanceof Error ? error.message : String(error));
  process.exitCode = controller.signal.aborted ? 130 : 1;
}

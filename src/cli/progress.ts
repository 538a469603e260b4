/** How far long work has come: a bar on a terminal, now and then a plain line elsewhere, nothing when quiet. */
import { SingleBar } from "cli-progress";
import { duration, percent } from "./format.ts";
import type { OutStream } from "./io.ts";

/** Seconds between plain lines. */
const lineInterval = 10;
/** Steps of a bar; work is reported in fractions, too. */
const barSteps = 1000;

interface Stage {
  readonly name: string;
  readonly started: number;
  /** Largest share reported: a bar never goes back. */
  share: number;
  lastLine: number;
  isAnnounced: boolean;
  isDone: boolean;
  bar: SingleBar | null;
}

export class Progress {
  readonly #stream: OutStream;
  readonly #isEnabled: boolean;
  #stage: Stage | null = null;

  constructor(stream: OutStream, isEnabled: boolean) {
    this.#stream = stream;
    this.#isEnabled = isEnabled;
  }

  /**
   * Reports `done` of `total`; another name ends the stage before.
   * @param patience seconds that the stage may take without being mentioned
   */
  update(name: string, done: number, total: number, patience = 0): void {
    if (!this.#isEnabled) return;
    if (this.#stage?.name !== name) this.#begin(name);
    const stage = this.#stage!;
    if (stage.isDone) return;
    const now = performance.now() / 1000;
    stage.share = Math.max(stage.share, total > 0 ? Math.min(1, done / total) : 1);
    stage.isDone = stage.share === 1;
    if (!stage.isAnnounced && (now - stage.started < patience || (patience > 0 && stage.isDone))) return;
    this.#show(stage, now);
  }

  /** Ends the last stage; nothing stays behind that would keep the process alive. */
  end(): void {
    this.#stage?.bar?.stop();
    this.#stage = null;
  }

  #begin(name: string): void {
    this.end();
    const now = performance.now() / 1000;
    this.#stage = {
      name,
      started: now,
      share: 0,
      lastLine: now,
      isAnnounced: false,
      isDone: false,
      bar: null,
    };
  }

  #show(stage: Stage, now: number): void {
    const isFirst = !stage.isAnnounced;
    stage.isAnnounced = true;
    if (this.#stream.isTTY) {
      stage.bar ??= this.#startBar(stage.name);
      stage.bar.update(Math.floor(stage.share * barSteps));
      if (stage.isDone) stage.bar.stop();
      return;
    }
    if (stage.isDone) this.#stream.write(`${stage.name}: done in ${duration(now - stage.started)}\n`);
    else if (isFirst) this.#stream.write(`${stage.name} …\n`);
    else if (now - stage.lastLine >= lineInterval) {
      stage.lastLine = now;
      this.#stream.write(`${stage.name}: ${percent(stage.share, 0)}\n`);
    }
  }

  #startBar(name: string): SingleBar {
    const bar = new SingleBar({
      format: `${name.padEnd(24)} {bar} {percentage} %  {duration_formatted}, ETA {eta_formatted}`,
      barCompleteChar: "█",
      barIncompleteChar: "░",
      barsize: 24,
      stream: this.#stream,
      // Ctrl-C is dealt with elsewhere, once for all.
      gracefulExit: false,
      hideCursor: false,
      linewrap: null,
      etaBuffer: 50,
    });
    bar.start(barSteps, 0);
    return bar;
  }
}

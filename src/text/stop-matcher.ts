/** Ends a stream of text at the first stop string, wherever the pieces are cut. */
import { UsageError } from "../util/errors.ts";

export class StopMatcher {
  readonly #stops: readonly string[];
  /** The end of the text so far that may be the start of a stop string. */
  #held = "";
  #stopped = false;

  /** Throws a UsageError for an empty stop string. */
  constructor(stops: readonly string[]) {
    if (stops.includes(""))
      throw new UsageError('stop: "" is not a stop string; it would end every text at once.');
    this.#stops = stops.toSorted((a, b) => b.length - a.length);
  }

  /**
   * Takes the next piece and returns the text that is now certain. The stop string that is complete first wins, the
   * longest of those that end together; the text before it is returned, it and what follows are not.
   */
  push(delta: string): { text: string; stopped: boolean } {
    if (this.#stopped) return { text: "", stopped: true };
    const text = this.#held + delta;
    for (let end = this.#held.length + 1; end <= text.length; end++) {
      const stop = this.#stops.find((stop) => text.endsWith(stop, end));
      if (stop === undefined) continue;
      this.#held = "";
      this.#stopped = true;
      return { text: text.slice(0, end - stop.length), stopped: true };
    }
    const certain = text.length - this.#possibleStart(text);
    this.#held = text.slice(certain);
    return { text: text.slice(0, certain), stopped: false };
  }

  /** True once a stop string has been found. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** The text that was held back, once it is certain that no more comes. */
  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }

  /** Length of the longest end of `text` with which a stop string starts. */
  #possibleStart(text: string): number {
    const longest = (this.#stops[0]?.length ?? 1) - 1;
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      const tail = text.slice(text.length - length);
      if (this.#stops.some((stop) => stop.length > length && stop.startsWith(tail))) return length;
    }
    return 0;
  }
}

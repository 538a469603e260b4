import { setImmediate } from "node:timers/promises";

/** Work that holds the thread lets the event loop run this often (milliseconds), so that Ctrl-C and timers get through. */
const breathInterval = 15;

/**
 * Returns a function to await between steps of long work: it usually does nothing, now and then yields to the event
 * loop, and throws the signal's reason once it is aborted.
 */
export function createBreather(signal?: AbortSignal): () => Promise<void> | undefined {
  let last = performance.now();
  const pause = async (): Promise<void> => {
    await setImmediate();
    last = performance.now();
    signal?.throwIfAborted();
  };
  return () => {
    signal?.throwIfAborted();
    return performance.now() - last < breathInterval ? undefined : pause();
  };
}

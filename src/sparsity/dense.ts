import { denseKv, noBytes, type Selector } from "./selector.ts";

/** Computes everything: what the others are measured against. */
export const denseSelector: Selector = {
  kind: "dense",
  bytesPerToken: noBytes,
  attention: denseKv,
  heads: () => null,
  neurons: () => null,
  dispose() {},
};

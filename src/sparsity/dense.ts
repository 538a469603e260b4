import { denseKv, noBytes, type Selector } from "./selector.ts";

/** Computes everything: what the others are measured against. */
export const denseSelector: Selector = Object.defineProperty(
  {
    kind: "dense" as const,
    bytesPerToken: noBytes,
    attention: denseKv,
    heads: () => null,
    neurons: () => null,
    dispose() {},
  },
  // Not enumerable: what somebody makes of a copy of this selector need not repeat.
  "repeats",
  { value: true },
);

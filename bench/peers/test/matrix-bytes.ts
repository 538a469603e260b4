import { matrixElements, type Shape } from "../shapes.ts";

/** Bytes of all weight matrices at so many bits an element, scales included. */
export const matrixBytes = (shape: Shape, bits: number): number => (matrixElements(shape) * bits) / 8;

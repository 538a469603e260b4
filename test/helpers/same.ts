import { expect } from "vitest";

/** Places that a failure shows. */
const shown = 5;

/**
 * Fails unless two arrays hold the same numbers, bit for bit (NaN is NaN, and 0 is not −0), and names the first places where
 * they differ. Of thousands of numbers a matcher's diff takes minutes to draw.
 */
export function expectSame(actual: ArrayLike<number>, expected: ArrayLike<number>, what = "element"): void {
  if (actual.length !== expected.length)
    expect.fail(`${what}: there are ${actual.length}, should be ${expected.length}`);
  const different: string[] = [];
  let count = 0;
  for (let i = 0; i < expected.length; i++) {
    if (Object.is(actual[i], expected[i])) continue;
    count += 1;
    if (count <= shown) different.push(`${what} ${i} is ${actual[i]}, should be exactly ${expected[i]}`);
  }
  if (count === 0) return;
  expect.fail(`${count} of ${expected.length} differ: ${different.join("; ")}${count > shown ? "; …" : ""}`);
}

/** What the weights are stored in, by the names that the tables use. */
export const formats = ["int4", "f16", "q8"] as const;
export type Format = (typeof formats)[number];

/** Weights that share one scale, in every quantised format here. */
export const blockSize = 32;

export function formatNamed(name: string): Format {
  const format = formats.find((one) => one === name);
  if (format) return format;
  throw new Error(`unknown format "${name}"; use ${formats.join(", ")}`);
}

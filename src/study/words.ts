/** Numbers and lists as people read them in a sentence. */

/** Between a number and its unit, which no line break may part. */
const space = "\u00a0";

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const count = (value: number): string => grouped.format(value);

/** As many digits as say something: 0.0019 → 0.19, 0.038 → 3.8, 0.27 → 27, 15.6 → 1,560. */
function hundredths(value: number): string {
  const hundred = Math.abs(value * 100);
  if (hundred >= 1000) return count(Number(hundred.toPrecision(3)));
  return hundred.toFixed(hundred >= 9.95 ? 0 : hundred >= 0.995 ? 1 : 2);
}

/** 0.038 → 3.8 % */
export const percent = (share: number): string => {
  if (share === 0) return `0${space}%`;
  return `${share < 0 ? "−" : ""}${hundredths(share)}${space}%`;
};

/** 0.038 → +3.8 % */
export const change = (share: number): string => {
  const text = hundredths(share);
  if (Number(text) === 0) return `±0${space}%`;
  return `${share < 0 ? "−" : "+"}${text} %`;
};

export const megabytes = (bytes: number): string =>
  bytes >= 1e10 ? `${(bytes / 1e9).toFixed(1)}${space}GB` : `${(bytes / 1e6).toFixed(2)}${space}MB`;

export const microseconds = (seconds: number): string => {
  const micro = seconds * 1e6;
  return `${micro >= 100 ? count(micro) : micro.toFixed(1)}${space}µs`;
};

export const rate = (value: number): string => (value >= 100 ? count(value) : value.toFixed(1));
export const times = (value: number): string => `${value.toFixed(2)}×`;
export const perplexity = (value: number): string => (value < 1000 ? value.toFixed(3) : count(value));
export const nats = (value: number): string => value.toPrecision(3);

/** As text that is searched and compared: with ordinary spaces. */
export const ordinary = (text: string): string => text.replaceAll(space, " ");

/** a, b and c */
export function list(parts: readonly string[]): string {
  if (parts.length < 2) return parts.join("");
  return `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** The entry with the largest value. */
export const largest = <T>(entries: readonly T[], value: (entry: T) => number): T =>
  entries.reduce((best, entry) => (value(entry) > value(best) ? entry : best));

export const smallest = <T>(entries: readonly T[], value: (entry: T) => number): T =>
  largest(entries, (entry) => -value(entry));

/** Of the bundled model's folder or another: no sentence starts with a small letter. */
export const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

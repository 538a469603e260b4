/** Numbers as people read them. */
import type { Model } from "../models/model.ts";

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** 4444416 → 4,444,416 */
export const count = (value: number): string => grouped.format(value);

/** 8888832 → 8.9 MB. Megabytes are 10⁶ bytes; from 10 GB on, gigabytes. */
export function megabytes(bytes: number): string {
  const inGigabytes = bytes >= 1e10;
  return `${(bytes / (inGigabytes ? 1e9 : 1e6)).toFixed(1)} ${inGigabytes ? "GB" : "MB"}`;
}

/** int4 (tables in int8); one word where tables are in the same. */
export const weightFormat = ({ dtype, tables }: Pick<Model, "dtype" | "tables">): string =>
  tables === dtype ? dtype : `${dtype} (tables in ${tables})`;

/** 0.1234 → 12.3 % */
export const percent = (share: number, digits = 1): string => `${(share * 100).toFixed(digits)} %`;

/** The difference of `value` to `base`: +1.2 % */
export function change(value: number, base: number, digits = 1): string {
  const text = ((value / base - 1) * 100).toFixed(digits);
  // Neither -0.0 nor a sign before nothing.
  if (Number(text) === 0) return `${(0).toFixed(digits)} %`;
  return `${Number(text) > 0 ? "+" : ""}${text} %`;
}

/** 2310.4 → 2,310; below 100 with one decimal. */
export const rate = (perSecond: number): string =>
  perSecond >= 100 ? count(perSecond) : perSecond.toFixed(1);

export const perplexity = (value: number): string => (value < 1000 ? value.toFixed(3) : count(value));

/** 1.347 → 1.35× */
export const times = (ratio: number): string => `${ratio >= 100 ? count(ratio) : ratio.toFixed(2)}×`;

export const gigabytesPerSecond = (value: number): string => `${value.toFixed(1)} GB/s`;

/** 71.3 → 1 min 11 s; below a minute with one decimal. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

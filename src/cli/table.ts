/** Tables in plain text: numbers to the right, words to the left, no wider than the terminal. */
import { stripVTControlCharacters } from "node:util";

export interface Column {
  readonly title: string;
  /** Default: right, for numbers. */
  readonly align?: "left" | "right";
}

const gap = "  ";
/** Narrowest that a column of words is cut down to. */
const leastWidth = 8;

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });
const wide =
  /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}]/u;

const graphemes = (text: string): string[] => Array.from(segmenter.segment(text), ({ segment }) => segment);

/** Columns of the terminal that a text takes; control sequences take none. */
export function displayWidth(text: string): number {
  return graphemes(stripVTControlCharacters(text)).reduce((sum, part) => sum + (wide.test(part) ? 2 : 1), 0);
}

function cut(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let kept = "";
  for (const part of graphemes(text)) {
    if (displayWidth(kept + part) > width - 1) break;
    kept += part;
  }
  return `${kept}…`;
}

/** Takes what is too much from the widest columns of words; numbers are never cut. */
function shrink(widths: number[], columns: readonly Column[], available: number): void {
  const isWords = (c: number) => columns[c]!.align === "left";
  let excess = widths.reduce((sum, w) => sum + w, gap.length * (widths.length - 1)) - available;
  while (excess > 0) {
    const candidates = widths.map((_, c) => c).filter((c) => isWords(c) && widths[c]! > leastWidth);
    if (candidates.length === 0) return;
    const widest = candidates.reduce((best, c) => (widths[c]! > widths[best]! ? c : best));
    widths[widest]! -= 1;
    excess -= 1;
  }
}

/**
 * Renders rows under their titles (no title line if all are empty).
 * @param available columns of the terminal
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  available: number = Number.POSITIVE_INFINITY,
): string {
  const titles = columns.map(({ title }) => title);
  const hasTitles = titles.some((title) => title !== "");
  const lines = hasTitles ? [titles, ...rows] : rows;
  const widths = columns.map((_, c) => Math.max(0, ...lines.map((line) => displayWidth(line[c] ?? ""))));
  shrink(widths, columns, available);
  const cell = (text: string, c: number): string => {
    const shown = columns[c]!.align === "left" ? cut(text, widths[c]!) : text;
    const padding = " ".repeat(Math.max(0, widths[c]! - displayWidth(shown)));
    return columns[c]!.align === "left" ? shown + padding : padding + shown;
  };
  return lines
    .map((line) => `${columns.map((_, c) => cell(line[c] ?? "", c)).join(gap)}`.trimEnd())
    .map((line) => `${line}\n`)
    .join("");
}

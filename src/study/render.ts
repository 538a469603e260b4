/** Charts → SVG, by vega-lite without a browser. The packages are optional: they are loaded when a report is made. */
import { DejavuError } from "../util/errors.ts";
import type { Chart } from "./section.ts";

/** As in package.json. */
const packages = { vega: "6.4.0", "vega-lite": "6.4.3" } as const;

/** The charts' packages are not installed. */
export class ChartsUnavailableError extends DejavuError {
  override readonly name = "ChartsUnavailableError";
}

/** What is used of the two packages; their own types would make them needed for compiling. */
interface Vega {
  parse(spec: unknown): unknown;
  View: new (
    runtime: unknown,
    options: { renderer: "none" },
  ) => { toSVG(): Promise<string>; finalize(): void };
}
interface VegaLite {
  compile(spec: unknown): { spec: unknown };
}

export interface Renderer {
  /** @param title whether the chart's title is part of the picture */
  svg(chart: Chart, title: boolean): Promise<string>;
}

const theme = {
  font: "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif",
  background: "white",
  view: { stroke: null },
  title: { fontSize: 14, fontWeight: 600, anchor: "start", offset: 14, color: "#1b1b1b" },
  axis: {
    labelFontSize: 11,
    titleFontSize: 11.5,
    titleFontWeight: 400,
    titlePadding: 8,
    labelColor: "#444",
    titleColor: "#333",
    gridColor: "#e8e8e8",
    domainColor: "#999",
    tickColor: "#999",
    labelLimit: 300,
  },
  axisX: { grid: false },
  // Symbols have no outline, which the lines' dashes would fray.
  legend: {
    orient: "top",
    labelFontSize: 11.5,
    labelLimit: 0,
    symbolSize: 70,
    symbolStrokeWidth: 0,
    offset: 6,
  },
  line: { strokeWidth: 1.8 },
};

/** Characters of a title on one line; without a canvas, vega takes text for half as wide again and widens the picture. */
const titleWidth = 60;

/** Breaks a title at spaces into lines. */
function wrap(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= titleWidth)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

async function importPackage<T>(
  name: keyof typeof packages,
  load: (name: string) => Promise<unknown>,
): Promise<T> {
  try {
    return (await load(name)) as T;
  } catch (cause) {
    const wanted = Object.entries(packages).map(([key, version]) => `${key}@${version}`);
    throw new ChartsUnavailableError(
      `the package ${name}, which draws the report's charts, cannot be loaded: ${(cause as Error).message.split("\n")[0]}. Install it with: npm install --include=optional ${wanted.join(" ")}`,
      { cause },
    );
  }
}

/**
 * Loads the packages.
 * @throws ChartsUnavailableError naming the one that is missing
 */
export async function openRenderer(
  load: (name: string) => Promise<unknown> = (name) => import(name),
): Promise<Renderer> {
  const vega = await importPackage<Vega>("vega", load);
  const vegaLite = await importPackage<VegaLite>("vega-lite", load);
  return {
    async svg({ spec, title }, hasTitle) {
      const config = { ...theme, ...(spec["config"] as object | undefined) };
      // A copy: vega marks the values that it is given.
      const whole = { ...structuredClone(spec), config, ...(hasTitle && { title: wrap(title) }), padding: 8 };
      const view = new vega.View(vega.parse(vegaLite.compile(whole).spec), { renderer: "none" });
      try {
        return await view.toSVG();
      } finally {
        view.finalize();
      }
    },
  };
}

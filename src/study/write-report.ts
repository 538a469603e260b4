/** Numbers → report.json, report.html and, if wanted, one SVG file per chart. */
import { join } from "node:path";
import { reportHtml } from "./html.ts";
import type { Renderer } from "./render.ts";
import { type Numbers, type Report, reportSchema } from "./schema.ts";
import { findingsOf, sectionsOf } from "./sections/index.ts";
import { writeWhole } from "./store.ts";

export interface WrittenReport {
  readonly report: Report;
  readonly files: readonly string[];
}

export async function writeReport(
  numbers: Numbers,
  folder: string,
  renderer: Renderer,
  asFiles: boolean,
): Promise<WrittenReport> {
  const sections = sectionsOf(numbers);
  const report = reportSchema.parse({ ...numbers, findings: findingsOf(sections) });
  const charts = sections.flatMap((section) => section.charts);
  const svgs = new Map<string, string>();
  for (const chart of charts) svgs.set(chart.id, await renderer.svg(chart, false));
  const files = new Map<string, string>([
    ["report.html", reportHtml(report, sections, svgs)],
    ["report.json", `${JSON.stringify(report, null, 1)}\n`],
  ]);
  if (asFiles)
    for (const chart of charts) files.set(`${chart.id}.svg`, `${await renderer.svg(chart, true)}\n`);
  for (const [name, text] of files) await writeWhole(join(folder, name), text);
  return { report, files: [...files.keys()].map((name) => join(folder, name)) };
}

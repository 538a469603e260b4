/** The report as one page without scripts and without anything to fetch. Also well-formed XML. */
import type { Report } from "./schema.ts";
import type { Chart, Section, Table } from "./section.ts";
import { count, megabytes } from "./words.ts";

const entities: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (char) => entities[char]!);

const style = `
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 52rem; padding: 2rem 1.25rem 4rem; background: #fff; color: #1b1b1b;
  font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid #ddd; }
p, li { max-width: 46rem; }
ul { padding-left: 1.2rem; }
li { margin: .3rem 0; }
.method, .lead { color: #555; font-size: .9rem; }
figure { margin: 1.5rem 0; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .4rem; }
svg { max-width: 100%; height: auto; display: block; }
details { margin-top: .4rem; font-size: .85rem; }
summary { cursor: pointer; color: #555; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #e8e8e8; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.facts td:first-child { white-space: nowrap; color: #555; }
nav ol { columns: 2; }
code { font-size: .9em; overflow-wrap: anywhere; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2, figcaption { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; height: auto; display: block; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .1rem .3rem; }
  nav { display: none; }
}`;

function tableHtml({ columns, rows }: Table): string {
  const cells = (tag: string, values: readonly string[]) =>
    `<tr>${values.map((value) => `<${tag}>${escapeHtml(value)}</${tag}>`).join("")}</tr>`;
  return `<div class="scroll"><table><thead>${cells("th", columns)}</thead><tbody>${rows.map((row) => cells("td", row)).join("\n")}</tbody></table></div>`;
}

function figureHtml({ id, title, table }: Chart, svg: string): string {
  return `<figure id="${id}">
<figcaption>${escapeHtml(title)}</figcaption>
${svg}
<details><summary>Values</summary>${tableHtml(table)}</details>
</figure>`;
}

function sectionHtml(section: Section, svgs: ReadonlyMap<string, string>): string {
  const { id, title, method, sentences, charts } = section;
  return `<section id="part-${id}">
<h2>${escapeHtml(title)}</h2>
<ul>
${sentences.map((sentence) => `<li>${escapeHtml(sentence)}</li>`).join("\n")}
</ul>
${method === "" ? "" : `<p class="method">${escapeHtml(method)}</p>`}
${charts.map((chart) => figureHtml(chart, svgs.get(chart.id)!)).join("\n")}
</section>`;
}

function factRows(report: Report): [string, string][] {
  const { machine, model, texts, settings, bundle } = report;
  const settled = Object.entries(settings).map(
    ([name, value]) =>
      `${name} ${[value]
        .flat()
        .map((n) => Number(n.toFixed(4)))
        .join(" / ")}`,
  );
  const from = bundle && Object.entries(bundle.provenance).map(([name, value]) => `${name}: ${plain(value)}`);
  return [
    ["command", report.command],
    [
      "machine",
      `${machine.cpu}, ${machine.cores} cores, ${megabytes(machine.memoryBytes)} of memory, Node ${machine.node}, ${machine.backend} backend (${machine.instructionSet}), ${machine.threads} threads`,
    ],
    [
      "model",
      `${model.name}: ${model.type}, ${count(model.parameters)} parameters, ${model.dtype}; ${model.layers} layers, hidden size ${model.hiddenSize}, ${model.heads} heads, ${model.ffnDim} neurons a layer`,
    ],
    ["weights, fingerprint", model.fingerprint],
    ["texts, SHA-256", texts.map(({ name, sha256 }) => `${name} ${sha256}`).join("; ")],
    ["bundle, SHA-256", bundle === null ? "none" : bundle.sha256],
    ...(from === null ? [] : [["bundle made by", from.join("; ")] as [string, string]]),
    ["settings", settled.join("; ")],
    ["program", report.program],
    ["finished", report.finished],
  ];
}

/** A value of provenance in one line. */
function plain(value: unknown): string {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (typeof value === "object" && value !== null)
    return Object.entries(value)
      .map(([name, inner]) => `${name} ${plain(inner)}`)
      .join(", ");
  return String(value);
}

/** @param svgs one for the id of each chart */
export function reportHtml(
  report: Report,
  sections: readonly Section[],
  svgs: ReadonlyMap<string, string>,
): string {
  const title = `Contextual sparsity of ${report.model.name}`;
  const contents = sections.map((s) => `<li><a href="#part-${s.id}">${escapeHtml(s.title)}</a></li>`);
  const facts = factRows(report).map(
    ([name, value]) => `<tr><td>${escapeHtml(name)}</td><td>${escapeHtml(value)}</td></tr>`,
  );
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
<p class="lead">What the Deja Vu paper (Liu et al., 2023) claims for its models, measured on this one. All text is written from the numbers; report.json holds them.</p>
<nav><ol>
${contents.join("\n")}
<li><a href="#part-facts">How this was measured</a></li>
</ol></nav>
${sections.map((section) => sectionHtml(section, svgs)).join("\n")}
<section id="part-facts">
<h2>How this was measured</h2>
<table class="facts"><tbody>
${facts.join("\n")}
</tbody></table>
</section>
</body>
</html>
`;
}

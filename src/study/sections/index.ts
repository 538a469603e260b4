/** The sections of a report, in the order of its pages. */
import type { Numbers } from "../schema.ts";
import type { Section } from "../section.ts";
import { ordinary } from "../words.ts";
import { bytesSection } from "./bytes.ts";
import { predictorsSection } from "./predictors.ts";
import { qualitySection } from "./quality.ts";
import { similaritySection } from "./similarity.ts";
import { sparsitySection } from "./sparsity.ts";
import { speedSection } from "./speed.ts";
import { unionSection } from "./union.ts";

const sections = [
  sparsitySection,
  qualitySection,
  predictorsSection,
  similaritySection,
  unionSection,
  speedSection,
  bytesSection,
];

/** Writes the report's text and draws up its charts, from the numbers alone. */
export const sectionsOf = (numbers: Numbers): Section[] => sections.map((make) => make(numbers));

/** The sentences of each section, and the titles of its charts, which are findings as well. */
export const findingsOf = (all: readonly Section[]): Record<string, string[]> =>
  Object.fromEntries(
    all.map(({ id, sentences, charts }) => {
      const titles = charts.map(({ title }) => title);
      return [id, [...sentences, ...titles].map(ordinary)];
    }),
  );

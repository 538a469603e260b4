/** What a section of the report consists of, and the look that its charts share. */

export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface Chart {
  /** Of the element and of the file. */
  readonly id: string;
  /** States the finding. */
  readonly title: string;
  /** A vega-lite specification without title, schema and configuration. */
  readonly spec: Readonly<Record<string, unknown>>;
  /** The values drawn. */
  readonly table: Table;
}

export interface Section {
  readonly id: string;
  readonly title: string;
  /** What was measured and how. */
  readonly method: string;
  readonly sentences: readonly string[];
  readonly charts: readonly Chart[];
}

export const chartWidth = 660;

/** Okabe and Ito's colours, which colour-blind readers can tell apart. */
export const colours = {
  blue: "#0072b2",
  orange: "#e69f00",
  green: "#009e73",
  vermilion: "#d55e00",
  sky: "#56b4e9",
  purple: "#cc79a7",
  grey: "#767676",
} as const;

/** A colour scale in a fixed order; printed in grey, dashes and shapes still tell the lines apart. */
export const series = (names: readonly string[], palette: readonly string[]) => ({
  field: "series",
  type: "nominal",
  sort: [...names],
  title: null,
  scale: { domain: [...names], range: [...palette] },
});

/** Dashes and shapes beside the colours. */
export const printable = (names: readonly string[]) => ({
  strokeDash: { field: "series", type: "nominal", sort: [...names], title: null },
  shape: { field: "series", type: "nominal", sort: [...names], title: null },
});

export const layerAxis = {
  field: "layer",
  type: "ordinal",
  title: "layer",
  axis: { labelAngle: 0, labelOverlap: true },
};

/** An axis of shares from 0 on, shown in per cent. */
export const shareAxis = (field: string, title: string, domainMax?: number) => ({
  field,
  type: "quantitative",
  title,
  axis: { format: "~%" },
  scale: { zero: true, ...(domainMax !== undefined && { domainMax }) },
});

/** Lines with points over the layers, one line per series. */
export const layerLines = (
  values: readonly object[],
  y: Readonly<Record<string, unknown>>,
  names: readonly string[],
  palette: readonly string[],
  width: number = chartWidth,
): Record<string, unknown> => ({
  data: { values },
  width,
  height: 220,
  mark: { type: "line", point: { size: 45 } },
  encoding: {
    x: layerAxis,
    y,
    color: series(names, palette),
    ...printable(names),
  },
});

/** Prints a table in Markdown under its title. */
export function printTable(title: string, header: readonly string[], rows: readonly (readonly string[])[]) {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  if (title !== "") console.log(`\n### ${title}`);
  console.log(`\n${[header, header.map(() => "---"), ...rows].map(line).join("\n")}`);
}

export const share = (value: number): string => `${(100 * value).toFixed(1)} %`;

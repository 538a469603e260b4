/** Tables, numbers and parsers of options. */
import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import {
  change,
  count,
  duration,
  megabytes,
  percent,
  perplexity,
  rate,
  times,
} from "../../src/cli/format.ts";
import { collect, decimal, integer, positive, share, shares } from "../../src/cli/options.ts";
import { Progress } from "../../src/cli/progress.ts";
import { displayWidth, renderTable } from "../../src/cli/table.ts";

describe("numbers", () => {
  it("are written as people read them", () => {
    expect(count(4444416)).toBe("4,444,416");
    expect([megabytes(0), megabytes(8888832), megabytes(2.53e10)]).toEqual(["0.0 MB", "8.9 MB", "25.3 GB"]);
    expect([percent(0.1234), percent(1, 0)]).toEqual(["12.3 %", "100 %"]);
    expect([change(1.1, 1), change(0.9, 1), change(1, 1), change(0.99999, 1)]).toEqual([
      "+10.0 %",
      "-10.0 %",
      "0.0 %",
      "0.0 %",
    ]);
    expect([rate(28.73), rate(2310.4)]).toEqual(["28.7", "2,310"]);
    expect([perplexity(6.5108), perplexity(126900)]).toEqual(["6.511", "126,900"]);
    expect([times(1.349), times(433)]).toEqual(["1.35×", "433×"]);
    expect([duration(3.21), duration(71.3), duration(3720)]).toEqual(["3.2 s", "1 min 11 s", "1 h 2 min"]);
  });
});

describe("tables", () => {
  const columns = [{ title: "name", align: "left" }, { title: "n" }] as const;

  it("put numbers to the right and leave no space at line ends", () => {
    expect(
      renderTable(columns, [
        ["a", "1"],
        ["long name", "1,000"],
      ]),
    ).toBe("name           n\na              1\nlong name  1,000\n");
  });

  it("have no title line without titles, and fill up short rows", () => {
    expect(renderTable([{ title: "" }, { title: "" }], [["1", "22"], ["333"]])).toBe("  1  22\n333\n");
  });

  it("measure what a terminal shows", () => {
    expect(displayWidth("\u001b[2mdim\u001b[22m")).toBe(3);
    expect(displayWidth("e\u0301")).toBe(1);
    expect(displayWidth("日本")).toBe(4);
  });

  it("cut words, not numbers, to the width of the terminal", () => {
    const table = renderTable(columns, [["a very long name indeed", "1,000,000"]], 24);
    expect(table).toBe("name                   n\na very long …  1,000,000\n");
    expect(renderTable(columns, [["abcdefghij", "1,000,000"]], 5)).toContain("abcdefg…  1,000,000");
  });
});

describe("parsers of options", () => {
  it("take what is in range", () => {
    expect([integer(0)("12"), decimal(0)("0.5"), positive("1e-3")]).toEqual([12, 0.5, 0.001]);
    expect([share("0.25"), share("5/6"), share("25%"), share("1")]).toEqual([0.25, 5 / 6, 0.25, 1]);
    expect(shares("0.1, 5/6,50%")).toEqual([0.1, 5 / 6, 0.5]);
    expect(collect("b", collect("a"))).toEqual(["a", "b"]);
  });

  it.each([
    ["integer", integer(1, 4), ["0", "5", "1.5", "", "x", "0x2", "Infinity", "2 3"]],
    ["decimal", decimal(0, 1), ["-0.1", "1.1", "NaN", "", "1,5"]],
    ["positive", positive, ["0", "-1", "inf"]],
    ["share", share, ["0", "1.01", "6/5", "1/2/3", "1/0", "/2", "101%", "%", ""]],
  ])("%s refuses the rest", (_, parse, values) => {
    for (const value of values) expect(() => parse(value), value).toThrow(InvalidArgumentError);
  });
});

describe("progress", () => {
  const stream = (isTTY: boolean) => {
    const written: string[] = [];
    const fake = {
      isTTY,
      columns: 80,
      write: (text: string) => written.push(text),
      on() {},
      removeListener() {},
    };
    return { written, stream: fake as unknown as ConstructorParameters<typeof Progress>[0] };
  };

  it("is a line at the start and at the end where there is no terminal", () => {
    const { written, stream: plain } = stream(false);
    const progress = new Progress(plain, true);
    for (const done of [0, 1, 2, 2]) progress.update("one", done, 2);
    progress.update("two", 1, 2);
    progress.end();
    expect(written.map((line) => line.replace(/[\d.]+ s/, "T"))).toEqual([
      "one …\n",
      "one: done in T\n",
      "two …\n",
    ]);
  });

  it("says nothing of what is over before patience is, and nothing at all when quiet", () => {
    const { written, stream: plain } = stream(false);
    const progress = new Progress(plain, true);
    for (const done of [0, 1, 2]) progress.update("loading", done, 2, 60);
    const quiet = new Progress(plain, false);
    for (const done of [0, 1, 2]) quiet.update("work", done, 2);
    expect(written).toEqual([]);
  });
});

import { describe, expect, it } from "vitest";
import { commands } from "../../src/cli/main.ts";
import { commonOptions } from "../../src/cli/options.ts";
import { version } from "../../src/util/version.ts";
import { dejavu } from "./tools.ts";

describe("help", () => {
  it.each(commands.map((spec) => [spec.name, spec] as const))(
    "of %s shows every option and an example",
    async (name, spec) => {
      const { code, stdout, stderr } = await dejavu([name, "--help"]);
      expect(code).toBe(0);
      expect(stderr).toBe("");
      for (const option of [...spec.options, ...commonOptions]) expect(stdout).toContain(`  ${option.long}`);
      expect(stdout).toContain(`Examples:\n  # ${spec.examples[0]![1]}\n  dejavu ${name}`);
      expect(stdout).toContain("[model]");
    },
  );

  it.each(commands.map((spec) => [spec.name, spec] as const))(
    "of %s has only examples that parse",
    async (_, spec) => {
      const known = new Set([...spec.options, ...commonOptions].map((option) => option.long));
      for (const [line] of spec.examples)
        for (const [flag] of line.matchAll(/--[a-z-]+/g)) expect(known, line).toContain(flag);
    },
  );

  it("names all commands", async () => {
    const { code, stdout } = await dejavu(["--help"]);
    expect(code).toBe(0);
    for (const { name, summary } of commands) {
      expect(stdout).toContain(`  ${name} `);
      expect(stdout.replace(/\s+/g, " ")).toContain(summary);
    }
  });

  it("goes to stderr when no command is given, as a mistake in use", async () => {
    const { code, stdout, stderr } = await dejavu([]);
    expect(code).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain("Usage: dejavu");
    expect(stderr).toMatch(/\ndejavu: no command was given\n$/);
  });

  it("has the version", async () => {
    expect(await dejavu(["--version"])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: "" });
  });
});

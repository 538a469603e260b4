/** Which pages tensors lie in, as the system tells it. */
import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { openKernels } from "../../src/kernels/open.ts";
import { availableBackends } from "../helpers/backends.ts";

const tells = existsSync("/proc/self/smaps") && existsSync("/sys/kernel/mm/transparent_hugepage/enabled");
const megabytes = 16;

/** Kilobytes of this process's memory that were advised so, and kilobytes that are present. */
function memory(flag: string): { advised: number; present: number } {
  const areas = readFileSync("/proc/self/smaps", "utf8").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const total = (name: string, of: readonly string[]) =>
    of.reduce((sum, area) => sum + Number(new RegExp(`^${name}: +(\\d+) kB`, "m").exec(area)?.[1] ?? 0), 0);
  const advised = areas.filter((area) => new RegExp(`^VmFlags:.* ${flag}\\b`, "m").test(area));
  return { advised: total("Size", advised), present: total("Rss", areas) };
}

it.runIf(tells && availableBackends.includes("native")).each([
  { hugePages: true, flag: "hg" },
  { hugePages: false, flag: "nh" },
])("large tensors ask for large pages, or not: hugePages $hugePages", async ({ hugePages, flag }) => {
  const kernels = await openKernels({ backend: "native", threads: 1, hugePages });
  const before = memory(flag);
  const tensor = kernels.allocate("f32", [megabytes, 1 << 18]);
  const after = memory(flag);
  expect(after.advised - before.advised).toBeGreaterThan((megabytes - 1) * 1024);
  // Small pages are made present at once, large ones when they are written.
  if (!hugePages) expect(after.present - before.present).toBeGreaterThan((megabytes - 2) * 1024);
  kernels.free(tensor);
  kernels.dispose();
});

it.runIf(tells && availableBackends.includes("native"))("tensors fill large pages together", async () => {
  const kernels = await openKernels({ backend: "native", threads: 1 });
  const before = memory("hg");
  // Each is smaller than two large pages, so that by itself it might fill none.
  const tensors = Array.from({ length: 40 }, () => kernels.allocate("f32", [3, 1 << 18]));
  const after = memory("hg");
  expect(after.advised - before.advised).toBeGreaterThanOrEqual(40 * 3 * 1024);
  // They are zeros, and nobody else's.
  for (const [i, tensor] of tensors.entries()) kernels.write(tensor, Float32Array.of(i), (3 << 18) - 1);
  const into = new Float32Array(2);
  for (const [i, tensor] of tensors.entries()) {
    await kernels.read(tensor, into, (3 << 18) - 2);
    expect([...into]).toEqual([0, i]);
    kernels.free(tensor);
  }
  kernels.dispose();
});

/** How much of the machine other processes used while something was measured. Linux tells it in /proc. */
import { existsSync, readFileSync } from "node:fs";

/** In the system's clock ticks, since it started. */
export interface CpuTimes {
  /** Of all processors. */
  readonly total: number;
  readonly busy: number;
  /** Of this process and of its children that have ended. */
  readonly own: number;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** From the texts of /proc/stat and /proc/self/stat. */
export function parseCpuTimes(machine: string, self: string): CpuTimes {
  // user, nice, system, idle, iowait, irq, softirq, steal; the rest is part of user and nice
  const ticks = machine.split("\n", 1)[0]!.trim().split(/\s+/).slice(1, 9).map(Number);
  const total = sum(ticks);
  const [, , , idle = 0, waiting = 0] = ticks;
  // The name in parentheses may hold spaces. After it, utime, stime, cutime and cstime are the 12th to the 15th field.
  const fields = self.slice(self.lastIndexOf(")") + 2).split(" ");
  return { total, busy: total - idle - waiting, own: sum(fields.slice(11, 15).map(Number)) };
}

export function cpuTimes(): CpuTimes | null {
  if (!existsSync("/proc/self/stat")) return null;
  return parseCpuTimes(readFileSync("/proc/stat", "utf8"), readFileSync("/proc/self/stat", "utf8"));
}

export function othersShare(before: CpuTimes | null, after: CpuTimes | null): number | null {
  if (!before || !after || after.total === before.total) return null;
  const others = after.busy - before.busy - (after.own - before.own);
  return Math.max(0, others) / (after.total - before.total);
}

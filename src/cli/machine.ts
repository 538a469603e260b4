/** What stands above every figure: the machine, and how it was used. */
import { cpus, totalmem } from "node:os";
import type { Kernels } from "../kernels/contract.ts";
import type { NativeKernels } from "../kernels/native/kernels.ts";
import { measureReadBandwidth } from "../kernels/native/probe.ts";
import { megabytes } from "./format.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly node: string;
  readonly backend: Kernels["name"];
  readonly instructionSet: string;
}

export function describeMachine({ name, instructionSet }: Kernels): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() || process.arch,
    cores: processors.length,
    memoryBytes: totalmem(),
    node: process.versions.node,
    backend: name,
    instructionSet,
  };
}

export function machineText({ cpu, cores, memoryBytes, node, backend, instructionSet }: Machine): string {
  const memory = `${megabytes(memoryBytes)} of memory`;
  return `${cpu}, ${cores} cores, ${memory}, Node ${node}, ${backend} backend (${instructionSet})`;
}

/** GB/s that the machine reads from memory with the same threads; null on the reference backend, which cannot tell. */
export const readBandwidth = (kernels: Kernels): number | null =>
  kernels.name === "native" ? measureReadBandwidth(kernels as NativeKernels) : null;

/** The process that measures the read bandwidth: threads in its argument, GB/s as one line of JSON on stdout. */
import { openNative } from "../../../src/kernels/native/native.ts";
import { measureReadBandwidth } from "../../../src/kernels/native/probe.ts";

const kernels = openNative({ threads: Number(process.argv[2]) });
const samples = Array.from({ length: 5 }, () => measureReadBandwidth(kernels));
kernels.dispose();
process.stdout.write(`${JSON.stringify({ gigabytesPerSecond: samples.toSorted((a, b) => a - b)[2] })}\n`);

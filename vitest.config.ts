import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Generous: on a busy machine with two cores a spawned command may take a while. No test is about time.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // By itself Vitest leaves one core free, which of two is half of them.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
});

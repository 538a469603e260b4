import { defineConfig } from "vitest/config";

export default defineConfig({
  // Generous: on a busy machine with two cores a spawned command may take a while. No test is about time.
  test: { testTimeout: 60_000, hookTimeout: 60_000, include: ["test/**/*.test.ts"] },
});

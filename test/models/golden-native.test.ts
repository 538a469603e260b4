import { describe, it } from "vitest";
import { nativeInstructionSets, openNative } from "../../src/kernels/native/native.ts";
import { goldenSuite } from "./golden.case.ts";

const instructionSets = nativeInstructionSets();
for (const instructionSet of instructionSets)
  goldenSuite(`native ${instructionSet}`, () => openNative({ instructionSet }), 2e-3);
if (instructionSets.length === 0)
  describe.skip("native: the addon is not built", () => it("is absent", () => {}));

import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { openTokenizer, StopMatcher, StreamDecoder, type Tokenizer } from "../../src/text/index.ts";
import { UsageError } from "../../src/util/errors.ts";

describe("StreamDecoder", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await openTokenizer("models/stories-4m");
  });
  /** One token per byte. */
  const decoder = (): StreamDecoder => new StreamDecoder((byte) => Uint8Array.of(byte));
  const byteRun = fc.oneof(
    fc.array(fc.nat(255), { maxLength: 6 }),
    fc.string({ unit: "binary" }).map((text) => [...new TextEncoder().encode(text)]),
    fc.constantFrom(
      [0xf0, 0x9f, 0x99],
      [0xe2, 0x82],
      [0xc3],
      [0xed, 0xa0, 0x80],
      [0xf4, 0x90],
      [0xef, 0xbb, 0xbf],
    ),
  );

  it("gives, in all, what decode gives", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(4200)), fc.boolean(), (ids, skipSpecial) => {
        const stream = tokenizer.stream({ skipSpecial });
        const pieces = ids.map((id) => stream.push(id));
        expect(pieces.join("") + stream.end()).toBe(tokenizer.decode(ids, { skipSpecial }));
      }),
      { numRuns: 500 },
    );
  });

  it("gives, in all, what the bytes at once give, whatever they are", () => {
    fc.assert(
      fc.property(fc.array(byteRun), (runs) => {
        const stream = decoder();
        const bytes = runs.flat();
        const text = bytes.map((byte) => stream.push(byte)).join("") + stream.end();
        expect(text).toBe(new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes)));
      }),
      { numRuns: 3000 },
    );
  });

  it("holds a character back until its last byte", () => {
    const stream = decoder();
    expect([0xf0, 0x9f, 0x99, 0x82].map((byte) => stream.push(byte))).toEqual(["", "", "", "🙂"]);
    expect(stream.end()).toBe("");
  });

  it("gives up on bytes as soon as they cannot become a character", () => {
    const stream = decoder();
    expect([0xf0, 0x9f, 0x41].map((byte) => stream.push(byte))).toEqual(["", "", "\ufffdA"]);
    expect(stream.push(0xff)).toBe("\ufffd");
    expect(stream.push(0xe2)).toBe("");
    expect(stream.end()).toBe("\ufffd");
  });

  it("keeps U+FEFF", () => {
    const stream = decoder();
    expect([0xef, 0xbb, 0xbf].map((byte) => stream.push(byte)).join("")).toBe("\ufeff");
  });
});

describe("StopMatcher", () => {
  function run(stops: readonly string[], pieces: readonly string[]): { text: string; stopped: boolean } {
    const matcher = new StopMatcher(stops);
    let text = "";
    for (const piece of pieces) {
      const result = matcher.push(piece);
      text += result.text;
      expect(result.stopped).toBe(matcher.stopped);
      if (result.stopped) break;
    }
    return { text: text + matcher.end(), stopped: matcher.stopped };
  }

  /** Adds one character at a time to the text and looks whether it ends with a stop string. */
  function oracle(stops: readonly string[], text: string): { text: string; stopped: boolean } {
    for (let end = 1; end <= text.length; end++) {
      const lengths = stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => stop.length);
      if (lengths.length > 0) return { text: text.slice(0, end - Math.max(...lengths)), stopped: true };
    }
    return { text, stopped: false };
  }

  it("agrees with the oracle, however the text is cut", () => {
    const letters = fc.constantFrom("a", "b", "c");
    const stop = fc.string({ unit: letters, minLength: 1, maxLength: 4 });
    const pieces = fc.array(fc.string({ unit: letters, maxLength: 4 }), { maxLength: 12 });
    fc.assert(
      fc.property(fc.array(stop, { maxLength: 3 }), pieces, (stops, pieces) => {
        expect(run(stops, pieces)).toEqual(oracle(stops, pieces.join("")));
      }),
      { numRuns: 3000 },
    );
  });

  it("holds back no more than it must", () => {
    const matcher = new StopMatcher(["\n\n", "END"]);
    expect(matcher.push("one E").text).toBe("one ");
    expect(matcher.push("N").text).toBe("");
    expect(matcher.push("x\n").text).toBe("ENx");
    expect(matcher.push("E").text).toBe("\n");
    expect(matcher.end()).toBe("E");
  });

  it("finds a stop string across pieces and gives nothing after it", () => {
    const matcher = new StopMatcher(["END"]);
    expect(matcher.push("text E").text).toBe("text ");
    expect(matcher.push("ND more")).toEqual({ text: "", stopped: true });
    expect(matcher.push("again")).toEqual({ text: "", stopped: true });
    expect(matcher.end()).toBe("");
  });

  it("without stop strings lets everything through at once", () => {
    expect(new StopMatcher([]).push("abc")).toEqual({ text: "abc", stopped: false });
  });

  it("refuses an empty stop string", () => {
    expect(() => new StopMatcher(["a", ""])).toThrow(UsageError);
  });
});

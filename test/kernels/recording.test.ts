/** Ops played back do what calling them again would have done, or nothing. */
import { afterAll, describe, expect, it } from "vitest";
import { openNative } from "../../src/kernels/native/native.ts";
import { openReference } from "../../src/kernels/reference/reference.ts";
import { availableBackends } from "../helpers/backends.ts";

describe.runIf(availableBackends.includes("native"))("recordings", () => {
  const k = openNative({ threads: 2 });
  afterAll(() => k.dispose());
  const [x, out] = [k.allocate("f32", [2, 3]), k.allocate("f32", [2, 3])];
  const put = (...values: number[]) => k.write(x, Float32Array.from(values));
  const softmax = () => k.logSoftmax(out, x, 2);
  const result = async () => {
    const values = new Float32Array(6);
    await k.read(out, values);
    return [...values];
  };
  const called = async (...values: number[]) => {
    put(...values);
    softmax();
    return result();
  };

  it("does the ops again, on what the tensors hold by then", async () => {
    const [first, second] = [
      [1, 2, 3, 4, 5, 7],
      [0, 0, 1, -1, 5, 2],
    ];
    const [once, twice] = [await called(...first), await called(...second)];
    expect(twice).not.toEqual(once);
    put(...first);
    const recording = k.record(softmax);
    expect(await result()).toEqual(once);
    put(...second);
    expect(k.replay(recording!)).toBe(true);
    expect(await result()).toEqual(twice);
    // Behind ops that wait in the list, and with others behind it.
    put(...first);
    k.copyRows(x, 0, out, 0, 2);
    expect(k.replay(recording!)).toBe(true);
    k.copyRows(out, 0, out, 1, 1);
    const expected = await called(...twice);
    put(...first);
    softmax();
    k.copyRows(out, 0, x, 0, 2);
    expect((await called(...twice)).slice(0, 3)).toEqual(expected.slice(0, 3));
  });

  it("holds forks with their joins, and more ops than the list has room for", async () => {
    put(3, 1, 2, 6, 6, 5);
    const recording = k.record(() => {
      k.fork();
      softmax();
      k.join();
      for (let i = 0; i < 1000; i++) softmax();
    })!;
    const expected = await result();
    put(0, 0, 0, 0, 0, 0);
    for (let i = 0; i < 10; i++) expect(k.replay(recording)).toBe(true);
    expect(await result()).not.toEqual(expected);
    put(3, 1, 2, 6, 6, 5);
    k.replay(recording);
    expect(await result()).toEqual(expected);
  });

  it("is null where something else than ops came between", () => {
    const others: (() => unknown)[] = [
      () => put(1, 2, 3, 4, 5, 6),
      () => k.read(out, new Float32Array(6)),
      () => k.free(k.allocate("f32", [1])),
      () => k.upload(x, () => {}),
      () => Array.from({ length: 5000 }, softmax), // more than one list
    ];
    for (const other of others) {
      expect(k.record(() => [other(), softmax()])).toBeNull();
      expect(k.record(() => [softmax(), other()])).toBeNull();
    }
    expect(k.record(softmax)).not.toBeNull();
  });

  it("does nothing once a tensor has been freed", async () => {
    const other = k.allocate("f32", [1]);
    const recording = k.record(softmax)!;
    const before = await called(1, 2, 3, 4, 5, 6);
    put(9, 1, 1, 1, 1, 1);
    k.free(other);
    expect(k.replay(recording)).toBe(false);
    expect(await result()).toEqual(before);
  });

  it("refuses open forks and what another backend recorded", () => {
    const [recording, another] = [k.record(softmax)!, openNative({ threads: 1 })];
    expect(() => another.replay(recording)).toThrow("another backend");
    another.dispose();
    expect(() => k.record(() => k.fork())).toThrow("forked");
    k.join();
    k.fork();
    expect(() => k.replay(recording)).toThrow("forked");
    expect(() => k.record(softmax)).toThrow("forked");
    k.join();
  });
});

it("the reference calls the ops, and keeps nothing", () => {
  const reference = openReference();
  let calls = 0;
  expect(reference.record(() => calls++)).toBeNull();
  expect(calls).toBe(1);
  expect(reference.replay({ isRecording: true })).toBe(false);
});

/** Turns ids into text one at a time, without ever showing half a character. */
export class StreamDecoder {
  readonly #bytesOf: (id: number) => Uint8Array;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  /** @param bytesOf the bytes that an id adds to the text */
  constructor(bytesOf: (id: number) => Uint8Array) {
    this.#bytesOf = bytesOf;
  }

  /**
   * The characters that `id` completes. Bytes that may yet become a character are kept; those that cannot become U+FFFD.
   */
  push(id: number): string {
    return this.#decoder.decode(this.#bytesOf(id), { stream: true });
  }

  /** What is left: nothing, or one U+FFFD for an incomplete character. The decoder can then be used anew. */
  end(): string {
    return this.#decoder.decode();
  }
}

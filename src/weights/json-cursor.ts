/**
 * A strict reader of JSON that is told what to expect. Unlike `JSON.parse` it refuses duplicate keys and numbers that
 * a double cannot hold, it never builds more than the caller asks for, and its depth is that of the caller.
 */

/** What is wrong with a JSON text, and where. */
export class JsonFault extends Error {
  override readonly name = "JsonFault";
}

const maxSkipDepth = 32;
const whitespace = /[ \t\n\r]*/y;
const plainText = /[ !#-[\]-\uffff]*/y; // by code unit: no quote, no backslash, no control character
const numberToken = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const wholeNumber = /^(?:0|[1-9][0-9]*)$/;
const unpairedSurrogate = /\p{Surrogate}/u;
const escapes: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

export class JsonCursor {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Reads an object; `visit` must read the value of each key. Throws a JsonFault for a key that comes twice. */
  object(visit: (key: string) => void): void {
    this.#expect("{", "an object");
    const seen = new Set<string>();
    if (this.#accept("}")) return;
    do {
      const key = this.string();
      if (seen.has(key)) throw new JsonFault(`duplicate key ${JSON.stringify(key)}`);
      seen.add(key);
      this.#expect(":", '":"');
      visit(key);
    } while (this.#accept(","));
    this.#expect("}", '"," or "}"');
  }

  /** Reads an array; `visit` must read each element. */
  array(visit: (index: number) => void): void {
    this.#expect("[", "an array");
    if (this.#accept("]")) return;
    let index = 0;
    do visit(index++);
    while (this.#accept(","));
    this.#expect("]", '"," or "]"');
  }

  /** Reads a string. */
  string(): string {
    this.#expect('"', "a string");
    let value = this.#match(plainText);
    while (this.#text[this.#at] === "\\") value += this.#escape() + this.#match(plainText);
    if (this.#text[this.#at] !== '"') throw this.#fault("an unterminated string or a raw control character");
    this.#at++;
    if (unpairedSurrogate.test(value)) throw this.#fault("a string with an unpaired surrogate");
    return value;
  }

  /** Reads an integer from 0 to 2^53 − 1, written without sign, fraction or exponent. */
  integer(): number {
    this.#match(whitespace);
    const token = this.#match(numberToken);
    if (token === "") throw this.#fault("expected an integer");
    const value = Number(token);
    if (!wholeNumber.test(token) || !Number.isSafeInteger(value)) {
      throw new JsonFault(`${token.slice(0, 40)} is not an integer from 0 to 2^53 - 1`);
    }
    return value;
  }

  /** Reads a value of any kind and forgets it. Throws a JsonFault beyond 32 levels. */
  skip(depth = 0): void {
    if (depth > maxSkipDepth) throw this.#fault(`nesting deeper than ${maxSkipDepth} levels`);
    this.#match(whitespace);
    const first = this.#text[this.#at];
    if (first === "{") this.object(() => this.skip(depth + 1));
    else if (first === "[") this.array(() => this.skip(depth + 1));
    else if (first === '"') this.string();
    else if (
      !["true", "false", "null"].some((word) => this.#acceptWord(word)) &&
      this.#match(numberToken) === ""
    ) {
      throw this.#fault("expected a value");
    }
  }

  /** Throws a JsonFault unless only white space is left. */
  end(): void {
    this.#match(whitespace);
    if (this.#at < this.#text.length) throw this.#fault("text after the end of the JSON value");
  }

  #escape(): string {
    const letter = this.#text[this.#at + 1] ?? "";
    this.#at += 2;
    if (letter !== "u") {
      if (!Object.hasOwn(escapes, letter)) throw this.#fault("an unknown escape");
      return escapes[letter]!;
    }
    const digits = this.#text.slice(this.#at, this.#at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw this.#fault("a broken \\u escape");
    this.#at += 4;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }

  #acceptWord(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  #accept(character: string): boolean {
    this.#match(whitespace);
    return this.#acceptWord(character);
  }

  #expect(character: string, what: string): void {
    if (!this.#accept(character)) throw this.#fault(`expected ${what}`);
  }

  #fault(what: string): JsonFault {
    return new JsonFault(`${what} at character ${this.#at}`);
  }
}

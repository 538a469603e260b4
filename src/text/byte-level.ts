/**
 * The alphabet of byte-level BPE: vocabulary entries spell each byte as one printable character. Bytes that are
 * printable in Latin-1 stand for themselves, the others take the characters from U+0100 on, in order.
 */

/** Character for each byte. */
export const byteCharacters: readonly string[] = spellBytes();

const byteOfCharacter: ReadonlyMap<string, number> = new Map(
  byteCharacters.map((char, byte) => [char, byte]),
);

function spellBytes(): string[] {
  const isPrintable = (byte: number): boolean =>
    (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

/** The bytes that a vocabulary entry spells, or null if it holds a character outside the alphabet. */
export function spelledBytes(token: string): Uint8Array | null {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfCharacter.get(token[i]!);
    if (byte === undefined) return null;
    bytes[i] = byte;
  }
  return bytes;
}

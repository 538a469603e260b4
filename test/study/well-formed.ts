/** A checker of XML's rules of nesting, enough for pages that this program writes. */

const token =
  /<!DOCTYPE [^<>]*>|<style>[^<]*<\/style>|<(\/?)([A-Za-z][\w:-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g;
const entity = /&(?!(?:amp|lt|gt|quot|#\d+|#x[\da-f]+);)/i;

/** @returns what is wrong with the page, or null; also, all its element and attribute texts */
export function nestingFault(page: string): string | null {
  const open: string[] = [];
  let end = 0;
  const text = (part: string) =>
    /[<>]/.test(part) || entity.test(part) ? `stray text ${part.trim()}` : null;
  for (const match of page.matchAll(token)) {
    const fault = text(page.slice(end, match.index));
    if (fault !== null) return fault;
    end = match.index + match[0].length;
    const [, isEnd, name, attributes, isEmpty] = match;
    if (name === undefined) continue;
    if (entity.test(attributes!)) return `stray & in <${name}>`;
    const names = [...attributes!.matchAll(/([\w:-]+)="/g)].map((m) => m[1]);
    if (new Set(names).size < names.length) return `an attribute twice in <${name}>`;
    if (isEnd && open.pop() !== name) return `</${name}> ends nothing`;
    if (!isEnd && !isEmpty) open.push(name);
  }
  const fault = text(page.slice(end));
  return fault ?? (open.length > 0 ? `<${open.at(-1)}> does not end` : null);
}

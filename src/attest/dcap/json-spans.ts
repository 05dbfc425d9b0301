/**
 * The members of a JSON object as they stand in its text: key -> exact text of the value. Intel signs the bytes of a
 * value, so it may not go through a parser and back. `text` has been through JSON.parse and is an object. Returns null if
 * a key appears twice: JSON.parse would take the second, and others the first.
 */
export function memberSpans(text: string): Map<string, string> | null {
  const spans = new Map<string, string>();
  let at = skipBlank(text, 0) + 1;
  for (;;) {
    at = skipBlank(text, at);
    if (text[at] !== '"') return spans;
    const keyEnd = endOfString(text, at);
    const key: string = JSON.parse(text.slice(at, keyEnd));
    const start = skipBlank(text, skipBlank(text, keyEnd) + 1);
    const end = endOfValue(text, start);
    if (spans.has(key)) return null;
    spans.set(key, text.slice(start, end));
    at = skipBlank(text, end);
    if (text[at] !== ',') return spans;
    at += 1;
  }
}

function skipBlank(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at += 1;
  return at;
}

/** After the closing quote of the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

function endOfValue(text: string, start: number): number {
  let depth = 0;
  let at = start;
  while (at < text.length) {
    const sign = text[at] ?? '';
    if (sign === '"') {
      at = endOfString(text, at);
      if (depth === 0) return at;
      continue;
    }
    if (sign === '{' || sign === '[') depth += 1;
    else if (sign === '}' || sign === ']') {
      if (depth <= 1) return depth === 0 ? at : at + 1;
      depth -= 1;
    } else if (depth === 0 && /[,\s]/.test(sign)) return at;
    at += 1;
  }
  return at;
}

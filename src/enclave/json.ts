/** `context` of a reviver (TC39 "JSON.parse source text access", in V8 since 11.4); not yet in TypeScript's library. */
type Reviver = (key: string, value: unknown, context: { source?: string }) => unknown;

/**
 * Parses UTF-8 JSON. Integers that a double cannot hold exactly come out as BigInt, so that 64-bit tensors keep their
 * values. Throws a SyntaxError or TypeError for anything that is not UTF-8 JSON.
 */
export function parseJson(bytes: Uint8Array): unknown {
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  // 2^53 has sixteen digits. A reviver costs ten times as much, and most requests do not need it.
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  const reviver: Reviver = (_key, value, { source }) =>
    typeof value === 'number' && !Number.isSafeInteger(value) && source !== undefined && /^-?\d+$/.test(source)
      ? BigInt(source)
      : value;
  return JSON.parse(text, reviver as (this: unknown, key: string, value: unknown) => unknown);
}

/** A parsed value for an error text, at most `most` characters of it. Never walks into it: it may be deep, or hold a BigInt. */
export function quote(value: unknown, most = 100): string {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object';
  const text = typeof value === 'bigint' ? String(value) : (JSON.stringify(value) ?? 'nothing');
  return text.length > most ? `${text.slice(0, most)}...` : text;
}

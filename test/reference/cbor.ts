/** The CBOR of docs/sealed-model-format.md ("dCBOR") and nothing more: a second implementation shares no code with the first. */

export class Tag {
  readonly number: number;
  readonly value: Item;
  constructor(number: number, value: Item) {
    this.number = number;
    this.value = value;
  }
}

export type Item = number | string | Uint8Array | Item[] | Map<number | string, Item> | Tag;

export const concat = (...parts: Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
export const u32 = (n: number): Uint8Array => bigEndian(BigInt(n), 4);
export const u64 = (n: number): Uint8Array => bigEndian(BigInt(n), 8);

function bigEndian(n: bigint, length: number): Uint8Array {
  const out = new Uint8Array(length);
  for (let i = length - 1; i >= 0; i--, n >>= 8n) out[i] = Number(n & 0xffn);
  return out;
}

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && order(a, b) === 0;

function order(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function head(major: number, n: number): Uint8Array {
  const type = major << 5;
  if (n < 24) return new Uint8Array([type | n]);
  const size = n < 2 ** 8 ? 0 : n < 2 ** 16 ? 1 : n < 2 ** 32 ? 2 : 3;
  return concat(new Uint8Array([type | (24 + size)]), bigEndian(BigInt(n), 1 << size));
}

export function encode(item: Item): Uint8Array {
  if (typeof item === 'number') return item < 0 ? head(1, -1 - item) : head(0, item);
  if (typeof item === 'string') return concat(head(3, utf8(item).length), utf8(item));
  if (item instanceof Uint8Array) return concat(head(2, item.length), item);
  if (Array.isArray(item)) return concat(head(4, item.length), ...item.map(encode));
  if (item instanceof Tag) return concat(head(6, item.number), encode(item.value));
  const entries = [...item].map(([key, value]) => ({ key: encode(key), value: encode(value) }));
  entries.sort((a, b) => order(a.key, b.key));
  return concat(head(5, entries.length), ...entries.flatMap(({ key, value }) => [key, value]));
}

/** Exactly one item in its only encoding, or an Error. */
export function decode(bytes: Uint8Array): Item {
  const { item, end } = decodeAt(bytes, 0, 0);
  if (end !== bytes.length) throw new Error('bytes after the item');
  return item;
}

function decodeAt(bytes: Uint8Array, start: number, depth: number): { item: Item; end: number } {
  if (depth > 31) throw new Error('nested too deeply');
  const { major, value, end } = readHead(bytes, start);
  let at = end;
  const next = (): Item => {
    const inner = decodeAt(bytes, at, depth + 1);
    at = inner.end;
    return inner.item;
  };
  switch (major) {
    case 0:
      return { item: value, end };
    case 1:
      return { item: -1 - value, end };
    case 2:
    case 3: {
      if (value > bytes.length - end) throw new Error('cut off');
      const content = bytes.slice(end, end + value);
      const item = major === 2 ? content : new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
      return { item, end: end + value };
    }
    case 4: {
      if (value > bytes.length - end) throw new Error('cut off');
      const items: Item[] = [];
      while (items.length < value) items.push(next());
      return { item: items, end: at };
    }
    case 5: {
      const map = new Map<number | string, Item>();
      let before: Uint8Array | null = null;
      for (let i = 0; i < value; i++) {
        const from = at;
        const key = next();
        const encoded = bytes.subarray(from, at);
        if (typeof key !== 'number' && typeof key !== 'string')
          throw new Error('a key that is neither number nor text');
        if (before && order(before, encoded) >= 0) throw new Error('keys out of order, or twice');
        before = encoded;
        map.set(key, next());
      }
      return { item: map, end: at };
    }
    case 6: {
      if (value !== 18 || depth > 0) throw new Error('a tag');
      const item = new Tag(value, next());
      return { item, end: at };
    }
    default:
      throw new Error('a float or simple value');
  }
}

function readHead(bytes: Uint8Array, at: number): { major: number; value: number; end: number } {
  const first = bytes[at];
  if (first === undefined) throw new Error('cut off');
  const [major, info] = [first >> 5, first & 31];
  if (info < 24) return { major, value: info, end: at + 1 };
  if (info > 27) throw new Error('an indefinite length, or a reserved one');
  const length = 1 << (info - 24);
  if (at + 1 + length > bytes.length) throw new Error('cut off');
  let n = 0n;
  for (const byte of bytes.subarray(at + 1, at + 1 + length)) n = (n << 8n) | BigInt(byte);
  if (n < (info === 24 ? 24n : 1n << BigInt(4 * length))) throw new Error('not the shortest form');
  if (n > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error('a number above 2^53 - 1');
  return { major, value: Number(n), end: at + 1 + length };
}

export const toHex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

/** Diagnostic notation, one line to the entry of maps and outer lists. */
export function diagnose(item: Item, indent = 0): string {
  if (typeof item === 'number') return String(item);
  if (typeof item === 'string') return JSON.stringify(item);
  if (item instanceof Uint8Array) return `h'${toHex(item)}'`;
  if (item instanceof Tag) return `${item.number}(${diagnose(item.value, indent)})`;
  const [open, close, lines] = Array.isArray(item)
    ? ['[', ']', item.map((inner) => diagnose(inner, indent + 1))]
    : ['{', '}', [...item].map(([key, value]) => `${diagnose(key)}: ${diagnose(value, indent + 1)}`)];
  const flat = `${open}${lines.join(', ')}${close}`;
  if (!flat.includes('\n') && flat.length + indent <= 120) return flat;
  const pad = ' '.repeat(indent + 1);
  return `${open}\n${lines.map((line) => `${pad}${line}`).join(',\n')}\n${' '.repeat(indent)}${close}`;
}

import { usageError } from '../core/errors.ts';
import { isTable, losesItsPlace, ManifestDate, type ManifestTable, pythonFloat } from './toml-values.ts';

const INDENT = '    ';
const MAX_INLINE = 100;
const BARE_KEY = /^[A-Za-z0-9_-]+$/;
const ESCAPES: Record<string, string> = {
  '\b': '\\b',
  '\n': '\\n',
  '\f': '\\f',
  '\r': '\\r',
  '"': '\\"',
  '\\': '\\\\',
};

/**
 * TOML as the Python library tomli_w 1.0.0 writes it, byte for byte: Gramine's tools write manifests with it, and every byte of a
 * manifest is measured into MRENCLAVE. The rules are in tomli_w/_writer.py; UTF-8, ends with a line end unless empty.
 *
 * Errors: `ERR_GRAMINE_KEY_ORDER` for a table whose order JavaScript does not keep, `ERR_GRAMINE_VALUE` for text that is not Unicode.
 */
export function encodeManifest(table: ManifestTable): Buffer {
  const chunks: string[] = [];
  writeTable(chunks, table, '', false, new WeakMap());
  return Buffer.from(chunks.join(''), 'utf8');
}

type Inline = WeakMap<ManifestTable, string>;

function writeTable(out: string[], table: ManifestTable, name: string, item: boolean, inline: Inline): void {
  const literals: [string, unknown][] = [];
  const tables: [string, ManifestTable, boolean][] = [];
  for (const [key, value] of orderedEntries(table, name)) {
    if (isTable(value)) tables.push([key, value, false]);
    else if (isTables(value) && !value.every((t) => fitsInline(t, inline))) {
      for (const t of value) tables.push([key, t, true]);
    } else literals.push([key, value]);
  }
  const start = out.length;
  if (item) out.push(`[[${name}]]\n`);
  else if (name !== '' && (literals.length > 0 || tables.length === 0)) out.push(`[${name}]\n`);
  for (const [key, value] of literals) out.push(`${writeKey(key)} = ${writeValue(value, inline, 0)}\n`);
  for (const [key, value, isItem] of tables) {
    if (out.length > start) out.push('\n');
    const part = writeKey(key);
    writeTable(out, value, name === '' ? part : `${name}.${part}`, isItem, inline);
  }
}

function orderedEntries(table: ManifestTable, name: string): [string, unknown][] {
  const entries = Object.entries(table);
  const lost = entries.length > 1 ? entries.find(([key]) => losesItsPlace(key)) : undefined;
  if (lost) throw keyOrderError(lost[0], name);
  return entries;
}

export const keyOrderError = (key: string, table: string) =>
  usageError(
    'ERR_GRAMINE_KEY_ORDER',
    `expected names as keys${table === '' ? '' : ` of [${table}]`}, found the number ${key} beside other keys: its place among them, which is measured, would be lost`,
  );

const isTables = (value: unknown): value is ManifestTable[] =>
  Array.isArray(value) && value.length > 0 && value.every(isTable);

/** Length in code points, as Python counts. */
function fitsInline(table: ManifestTable, inline: Inline): boolean {
  const line = `${INDENT}${writeInlineTable(table, inline)},`;
  if (line.includes('\n')) return false;
  return line.length <= MAX_INLINE || (line.length <= 2 * MAX_INLINE && [...line].length <= MAX_INLINE);
}

function writeInlineTable(table: ManifestTable, inline: Inline): string {
  const known = inline.get(table);
  if (known !== undefined) return known;
  // tomli_w starts indenting anew inside of an inline table.
  const entries = orderedEntries(table, '').map(([k, v]) => `${writeKey(k)} = ${writeValue(v, inline, 0)}`);
  const text = entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
  inline.set(table, text);
  return text;
}

function writeValue(value: unknown, inline: Inline, depth: number): string {
  if (typeof value === 'string') return writeString(value);
  if (typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return pythonFloat(value);
  if (value instanceof ManifestDate) return value.text;
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    const items = value.map((item) => INDENT.repeat(depth + 1) + writeValue(item, inline, depth + 1));
    return `[\n${items.join(',\n')},\n${INDENT.repeat(depth)}]`;
  }
  if (isTable(value)) return writeInlineTable(value, inline);
  throw new TypeError(`a manifest cannot hold ${value === null ? 'null' : typeof value}`);
}

const writeKey = (key: string): string => (BARE_KEY.test(key) ? key : writeString(key));

/** A tab stands as it is; that is what tomli_w does. */
function writeString(text: string): string {
  if (!text.isWellFormed())
    throw usageError('ERR_GRAMINE_VALUE', 'expected Unicode text, found half of a surrogate pair');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what has to be escaped
  const escaped = text.replace(/["\\\x00-\x08\x0a-\x1f\x7f]/g, (c) => ESCAPES[c] ?? hexEscape(c));
  return `"${escaped}"`;
}

const hexEscape = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;

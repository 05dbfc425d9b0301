import { printable } from '../core/printable.ts';

/**
 * Renders a JSON-able description for people: indented "name value" lines, lists of objects one per line.
 * The values may come from hostile files, so control characters are replaced.
 */
export function describe(value: Record<string, unknown>, indent = ''): string {
  const width = Object.keys(value).reduce((most, key) => Math.min(20, Math.max(most, key.length)), 0);
  return Object.entries(value)
    .filter(([, v]) => v !== undefined)
    .map(([key, v]) => {
      if (isRecord(v)) return `${indent}${printable(key)}\n${describe(v, `${indent}  `)}`;
      if (Array.isArray(v) && v.some(isRecord)) {
        return `${indent}${printable(key)}\n${v.map((item) => `${indent}  ${isRecord(item) ? inline(item) : scalar(item)}`).join('\n')}`;
      }
      return `${indent}${printable(key).padEnd(width)}  ${Array.isArray(v) ? v.map(scalar).join(', ') : scalar(v)}`;
    })
    .join('\n');
}

const inline = (record: Record<string, unknown>): string =>
  Object.entries(record)
    .map(
      ([key, v]) =>
        `${printable(key)} ${isRecord(v) ? `{${inline(v)}}` : Array.isArray(v) ? JSON.stringify(v) : scalar(v)}`,
    )
    .join('  ');

const isRecord = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

const scalar = (v: unknown): string => (v === null ? 'none' : printable(String(v)));

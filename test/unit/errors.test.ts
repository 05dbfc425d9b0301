import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { EXIT } from '../../src/core/errors.ts';

const root = join(import.meta.dirname, '../..');
const source = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => readFileSync(join(root, 'src', file), 'utf8'))
  .join('\n');

/** Node's own codes, which we only compare with. */
const FOREIGN = ['ERR_HTTP_REQUEST_TIMEOUT', 'ERR_STREAM_DESTROYED'];
const used = new Set([...source.matchAll(/\bERR_[A-Z0-9_]*[A-Z0-9]\b(?![_$]|_\$)/g)].map(([code]) => code));
for (const code of FOREIGN) used.delete(code);

/** The exit codes with which each code is thrown, where the call names both. */
const thrown = new Map<string, Set<number>>();
const calls =
  /(?:\b(usage|negative|refused|missing)Error\(|AtomaError\(\s*'(\w+)',|\b(refus)(?:al|e\w+)\()[^'`(),]*'(ERR_\w+)'/g;
for (const [, helper, kind, broker, code] of source.matchAll(calls)) {
  const name = broker === undefined ? (helper ?? kind) : 'refused';
  const exit = new Map<string, number>(Object.entries(EXIT)).get(String(name));
  if (code !== undefined && exit !== undefined) thrown.set(code, (thrown.get(code) ?? new Set()).add(exit));
}
const exitsOf = (code: string): number[] => [...(thrown.get(code) ?? [])].sort();

/** Exit codes as the table of docs/errors.md has them: "2" or "2, 3". */
const documented = new Map<string, number[]>();
const rows = [
  ...readFileSync(join(root, 'docs/errors.md'), 'utf8').matchAll(/^\| `(ERR_\w+)` \| ([\d, ]+) \| .+ \|$/gm),
];
for (const [, code, exits] of rows) documented.set(String(code), String(exits).split(', ').map(Number));

describe('docs/errors.md', () => {
  test('lists every code in src/', () => {
    const missing = [...used].filter((code) => !documented.has(code));
    expect(missing.sort().map((code) => `| \`${code}\` | ${exitsOf(code).join(', ')} | | |`)).toEqual([]);
  });

  test('lists no code twice, and none that is gone', () => {
    expect(rows).toHaveLength(documented.size);
    expect([...documented.keys()].filter((code) => !used.has(code))).toEqual([]);
  });

  test('gives the exit codes that the source gives', () => {
    const wrong = [...documented].filter(([code, exits]) => exitsOf(code).some((exit) => !exits.includes(exit)));
    expect(wrong.map(([code]) => `${code}: ${exitsOf(code).join(', ')}`)).toEqual([]);
  });
});

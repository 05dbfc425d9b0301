import { closest, distance } from 'fastest-levenshtein';
import { parse, TomlError } from 'smol-toml';
import type * as z from 'zod';
import { type AtomaError, usageError } from '../core/errors.ts';
import { knownKeys, type ProjectConfig, projectSchema } from './schema.ts';

/**
 * Parses the text of an enclave.toml and fills in its defaults. Pure. `file` is only for error texts.
 * Throws `ERR_CONFIG_SYNTAX`, `ERR_CONFIG_UNKNOWN_KEY` or `ERR_CONFIG_VALUE` (exit 2), each with the place.
 */
export function parseConfig(text: string, file: string): ProjectConfig {
  let data: unknown;
  try {
    data = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const why = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? 'error';
    throw usageError('ERR_CONFIG_SYNTAX', `${file}:${error.line}:${error.column}: not TOML: ${why}`);
  }
  const result = projectSchema.safeParse(data);
  if (result.success) return result.data;
  const issues = result.error.issues;
  // A misspelt key also makes the right one missing: the first is the cause, so it is reported first.
  const issue = issues.find((i) => i.code === 'unrecognized_keys') ?? issues[0];
  throw issue ? explain(issue, text, file) : result.error;
}

function explain(issue: z.core.$ZodIssue, text: string, file: string): AtomaError {
  const at = (path: PropertyKey[]) => {
    const line = findLine(text, path);
    return line === null ? file : `${file}:${line}`;
  };
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    const path = [...issue.path, key];
    const known = knownKeys(issue.path);
    const nearest = closest(key, known);
    const near = distance(key, nearest) <= Math.max(2, key.length / 2);
    const table = issue.path.length === 0 ? 'at the top level' : `in [${dotted(issue.path)}]`;
    return usageError('ERR_CONFIG_UNKNOWN_KEY', `${at(path)}: unknown key "${key}" ${table}`, {
      hint: near
        ? `did you mean "${nearest}"?`
        : `the nearest known key is "${nearest}"; known there: ${known.join(', ')}`,
      details: { key: dotted(path), nearest },
    });
  }
  const missing = issue.code === 'invalid_type' && valueAt(text, issue.path) === undefined;
  const key = dotted(issue.path);
  return usageError(
    'ERR_CONFIG_VALUE',
    missing ? `${file}: the key "${key}" is missing` : `${at(issue.path)}: "${key}": ${lower(issue.message)}`,
    { details: { key } },
  );
}

const dotted = (path: PropertyKey[]): string => path.map(String).join('.');
const lower = (message: string) => message.charAt(0).toLowerCase() + message.slice(1);

function valueAt(text: string, path: PropertyKey[]): unknown {
  let value: unknown = parse(text);
  for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  return value;
}

/**
 * The line (from 1) where a key is written, or the innermost key around it that can be found. The TOML parser keeps no
 * positions; a line-wise look is enough to point a person at the place, and decides nothing.
 */
function findLine(text: string, path: PropertyKey[]): number | null {
  const wanted = path.filter((p) => typeof p === 'string');
  let table: string[] = [];
  let best: { line: number; depth: number } | null = null;
  for (const [index, line] of text.split('\n').entries()) {
    const header = /^\s*\[\[?\s*([^\]]+?)\s*\]/.exec(line);
    if (header?.[1]) table = header[1].split('.').map(unquote);
    const key = header ? null : /^\s*([A-Za-z0-9_\-."']+)\s*=/.exec(line);
    const here = key?.[1] ? [...table, ...key[1].split('.').map(unquote)] : header ? table : null;
    if (here === null || here.length > wanted.length || here.some((part, i) => part !== wanted[i])) continue;
    if (best === null || here.length > best.depth) best = { line: index + 1, depth: here.length };
  }
  return best?.line ?? null;
}

const unquote = (part: string): string => part.trim().replace(/^["']|["']$/g, '');

import { closest, distance } from 'fastest-levenshtein';
import type * as z from 'zod';
import { type AtomaError, usageError } from '../core/errors.ts';
import { knownKeys, manifestSchema } from './schema-keys.ts';
import type { ManifestTable } from './toml-values.ts';

/**
 * Compares a manifest (with its defaults) with what Gramine 1.9 knows (python/graminelibos/manifest_check.py). Stricter than that in two
 * ways, where the enclave would not start anyway: a boolean is no integer, and a sha256 has 64 hex digits.
 *
 * Errors: `ERR_GRAMINE_UNKNOWN_KEY` with the nearest known one, `ERR_GRAMINE_VALUE`; both with the place.
 */
export function checkManifest(manifest: ManifestTable): void {
  const result = manifestSchema.safeParse(manifest);
  if (result.success) return;
  const { issues } = result.error;
  // A misspelt key also makes the right one missing: the first is the cause, so it is reported first.
  const issue = issues.find((i) => i.code === 'unrecognized_keys') ?? issues[0];
  throw issue ? explain(issue, manifest) : result.error;
}

function explain(issue: z.core.$ZodIssue, manifest: ManifestTable): AtomaError {
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] ?? '';
    const place = dotted([...issue.path, key]);
    const known = knownKeys(manifest, issue.path);
    const nearest = closest(key, known);
    const near = distance(key, nearest) <= Math.max(2, key.length / 2);
    return usageError('ERR_GRAMINE_UNKNOWN_KEY', `expected keys that Gramine knows, found "${place}"`, {
      hint: near
        ? `did you mean "${nearest}"?`
        : `the nearest known key is "${nearest}"; known there: ${known.join(', ')}`,
      details: { key: place, nearest },
    });
  }
  const key = dotted(issue.path);
  const missing = issue.code === 'invalid_type' && valueAt(manifest, issue.path) === undefined;
  const message = missing ? `the key "${key}" is missing` : `"${key}": ${lower(issue.message)}`;
  return usageError('ERR_GRAMINE_VALUE', message, { details: { key } });
}

/** "fs.mounts[2].uri" */
const dotted = (path: PropertyKey[]): string =>
  path.map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${String(part)}`)).join('');
const lower = (message: string) => message.charAt(0).toLowerCase() + message.slice(1);

function valueAt(manifest: ManifestTable, path: PropertyKey[]): unknown {
  let value: unknown = manifest;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  return value;
}

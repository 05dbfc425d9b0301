import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..', process.env.ATOMA_TEE_VECTORS ?? '../shared/vectors');

/** Reference data made by other implementations; it is not in this repository. */
export const haveVectors = existsSync(root);

/** The path of a vector file. */
export const vectors = (...path: string[]): string => join(root, ...path);

if (!haveVectors)
  console.warn(`no reference vectors at ${root}: the tests that need them are skipped (ATOMA_TEE_VECTORS)`);

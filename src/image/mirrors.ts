import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { missingError, usageError } from '../core/errors.ts';
import { debianMirrors, parseDeb822, parseOneLine } from './apt-sources.ts';

export const MIRROR_VARIABLE = 'ATOMA_TEE_DEBIAN_MIRROR';

/**
 * Mirrors of Debian's main archive: what ATOMA_TEE_DEBIAN_MIRROR names, else what this host's apt uses.
 * Throws `ERR_MIRROR_MISSING` (exit 5).
 */
export async function findMirrors(env: NodeJS.ProcessEnv = process.env, aptDir = '/etc/apt'): Promise<string[]> {
  const named = env[MIRROR_VARIABLE]?.trim();
  if (named) {
    if (!URL.canParse(named) || !/^https?:$/.test(new URL(named).protocol)) {
      throw usageError('ERR_MIRROR_URL', `expected an http or https URL in ${MIRROR_VARIABLE}, found "${named}"`);
    }
    return [named.replace(/\/+$/, '')];
  }
  const mirrors = debianMirrors(await readSources(aptDir));
  if (mirrors.length > 0) return mirrors;
  throw missingError(
    'ERR_MIRROR_MISSING',
    "expected a mirror of Debian's main archive, found none in the apt configuration of this machine",
    { hint: `set ${MIRROR_VARIABLE} to the URL of a mirror: the directory that holds "dists" and "pool"` },
  );
}

async function readSources(aptDir: string) {
  const text = (path: string) => readFile(path, 'utf8').catch(() => '');
  const parts = join(aptDir, 'sources.list.d');
  const names = (await readdir(parts).catch(() => [])).sort();
  const sources = parseOneLine(await text(join(aptDir, 'sources.list')));
  for (const name of names) {
    if (name.endsWith('.list')) sources.push(...parseOneLine(await text(join(parts, name))));
    if (name.endsWith('.sources')) sources.push(...parseDeb822(await text(join(parts, name))));
  }
  return sources;
}

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { missingError, usageError } from '../core/errors.ts';
import { type DebianArchive, debianMirrors, parseDeb822, parseOneLine } from './apt-sources.ts';

/** The environment variables that name mirrors. */
export const MIRROR_VARIABLES: Record<DebianArchive, string> = {
  main: 'ATOMA_TEE_DEBIAN_MIRROR',
  security: 'ATOMA_TEE_DEBIAN_SECURITY_MIRROR',
};

/**
 * Mirrors of one of Debian's archives: what ATOMA_TEE_DEBIAN_MIRROR (security: ATOMA_TEE_DEBIAN_SECURITY_MIRROR) names,
 * else what this host's apt uses. Throws `ERR_MIRROR_URL` (exit 2), `ERR_MIRROR_MISSING` (exit 5).
 */
export async function findMirrors(
  env: NodeJS.ProcessEnv = process.env,
  aptDir = '/etc/apt',
  archive: DebianArchive = 'main',
): Promise<string[]> {
  const variable = MIRROR_VARIABLES[archive];
  const named = env[variable]?.trim();
  if (named) {
    if (!URL.canParse(named) || !/^https?:$/.test(new URL(named).protocol)) {
      throw usageError('ERR_MIRROR_URL', `expected an http or https URL in ${variable}, found "${named}"`);
    }
    return [named.replace(/\/+$/, '')];
  }
  const mirrors = debianMirrors(await readSources(aptDir), archive);
  if (mirrors.length > 0) return mirrors;
  throw missingError(
    'ERR_MIRROR_MISSING',
    `expected a mirror of Debian's ${archive} archive, found none in the apt configuration of this machine`,
    { hint: `set ${variable} to the URL of a mirror: the directory that holds "dists" and "pool"` },
  );
}

/** The archive in whose pool a package lies: that of security updates has everything under "pool/updates". */
export const archiveOf = (path: string): DebianArchive => (path.startsWith('pool/updates/') ? 'security' : 'main');

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

import { missingError } from '../core/errors.ts';
import { httpRequest } from '../image/http.ts';
import type { LockEntry } from '../image/lock-file.ts';
import { archiveOf, findMirrors } from '../image/mirrors.ts';
import { npmOptions } from '../image/npm-config.ts';

type Entry<K extends LockEntry['kind']> = Extract<LockEntry, { kind: K }>;

const LIMIT_MS = 15_000;

/** Asks the registry for one package that a build needs: its description only. Throws `ERR_INPUT_FETCH` (exit 5). */
export async function npmReachable({ name, version }: Entry<'npm'>, dir: string): Promise<void> {
  const { default: pacote } = await import('pacote');
  const options = { ...(await npmOptions(dir)), preferOnline: true, fetchRetries: 0, timeout: LIMIT_MS };
  try {
    await pacote.manifest(`${name}@${version}`, options);
  } catch (error) {
    throw unreachable('the npm registry', (error as { code?: string }).code, 'npm config get registry');
  }
}

/** Asks a mirror for one package that a build needs, and hangs up when the answer begins. Throws `ERR_INPUT_FETCH` (exit 5). */
export async function debReachable({ path }: Entry<'deb'>): Promise<void> {
  const hint = 'ATOMA_TEE_DEBIAN_MIRROR, else the sources of apt';
  let why: string | undefined;
  for (const mirror of await findMirrors(process.env, '/etc/apt', archiveOf(path))) {
    const abort = AbortSignal.timeout(LIMIT_MS);
    try {
      const answer = await httpRequest(`${mirror}/${path}`, abort);
      if (answer.status === 'found') return void answer.body.destroy();
      why = `it has no ${path} any more`;
    } catch (error) {
      const { cause } = error as Error;
      why = abort.aborted
        ? `no answer in ${LIMIT_MS / 1000} s`
        : ((cause as NodeJS.ErrnoException)?.code ?? 'an error');
    }
  }
  throw unreachable('the Debian mirror', why, hint);
}

const unreachable = (what: string, why: string | undefined, named: string) =>
  missingError('ERR_INPUT_FETCH', `${what} could not be reached: ${why ?? 'an error'}`, {
    hint: `check the network, and what names it: ${named}`,
  });

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory } from '../core/cache-directory.ts';
import { entryDigest } from '../image/fetch.ts';
import { type LockEntry, lockEntries } from '../image/lock-file.ts';
import { findMirrors } from '../image/mirrors.ts';
import { npmOptions } from '../image/npm-config.ts';
import { loadBase } from '../image/toolkit.ts';
import { findProgram } from '../launch/programs.ts';
import { fromError, host, missing, type Outcome, ok, type Probe } from './finding.ts';
import { debReachable, npmReachable } from './network.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Where the inputs of a build come from. `network`: ask the servers, too. */
export function inputProbes(dir: string, network: boolean): Probe[] {
  const uses = 'build: packages that go into an image';
  return [
    { id: 'npm', name: 'npm registry', for: uses, required: true, look: () => source('npm', dir, network) },
    { id: 'debian', name: 'Debian mirror', for: uses, required: true, look: () => source('deb', dir, network) },
    {
      id: 'debian-security',
      name: 'Debian security',
      for: "nitro kernel: the small kernel's source",
      look: async () => ok((await findMirrors(process.env, '/etc/apt', 'security')).map(host).join(', ')),
    },
    { id: 'gpgv', name: 'gpgv', for: "lock --update: Debian's signature on its index", look: gpgv },
  ];
}

/** A source that nothing is needed of any more is not missed. */
async function source(kind: LockEntry['kind'], dir: string, network: boolean): Promise<Outcome> {
  const entries = lockEntries(await loadBase()).filter((entry) => entry.kind === kind);
  const lacking = entries.filter((entry) => !isCached(entry));
  const cached =
    lacking.length === 0
      ? 'all inputs cached'
      : `${entries.length - lacking.length} of ${entries.length} inputs cached`;
  const [probe] = lacking.length > 0 ? lacking : entries;
  try {
    const where = kind === 'npm' ? [await npmRegistry(dir)] : (await findMirrors()).map(host);
    if (network && probe !== undefined) await (probe.kind === 'npm' ? npmReachable(probe, dir) : debReachable(probe));
    return ok(`${where.join(', ')}${network ? ', reached' : ''} (${cached})`);
  } catch (error) {
    // A server that was to be asked is reported, also where a build could do without.
    return lacking.length === 0 && !network ? ok(`none needed (${cached})`) : fromError(error);
  }
}

/** As image/cache.ts has it, looked at without making a cache; a copy that is damaged is fetched again. */
function isCached(entry: LockEntry): boolean {
  const { algorithm, hex } = entryDigest(entry);
  return existsSync(join(cacheDirectory(process.env), 'archives', `${algorithm}-${hex}`));
}

async function npmRegistry(dir: string): Promise<string> {
  const { registry } = await npmOptions(dir);
  return typeof registry === 'string' ? host(registry) : "npm's own";
}

function gpgv(): Outcome {
  const path = findProgram('gpgv');
  if (path !== undefined && existsSync(KEYRING)) return ok(`${path}, with Debian's keys`);
  const lacking = [path === undefined ? 'gpgv' : '', existsSync(KEYRING) ? '' : 'debian-archive-keyring'].filter(
    Boolean,
  );
  return missing(`no ${lacking.join(', no ')}`, `apt-get install ${lacking.join(' ')}`);
}

/** Renews templates/base.lock.toml, the base that the toolkit ships: newest allowed packages under the rules in it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Cache } from '../src/image/cache.ts';
import { encodeBase } from '../src/image/lock-encode.ts';
import { lockEntries, parseBase } from '../src/image/lock-file.ts';
import { resolveNewest } from '../src/image/resolve.ts';

const path = join(import.meta.dirname, '../templates/base.lock.toml');
const old = parseBase(await readFile(path, 'utf8'), path);
const { base, unauthenticated } = await resolveNewest(old, lockEntries(old), await Cache.open(), {
  dir: process.cwd(),
  onProgress: ({ phase, done }) => done === 0 && console.error(phase),
});
if (unauthenticated.length > 0) throw new Error(`not authenticated: ${unauthenticated.join(', ')}`);
const inputs = ({ npm, deb }: typeof base) => JSON.stringify([npm, deb]);
const timestamp = inputs(base) === inputs(old) ? old.timestamp : Math.floor(Date.now() / 1000);
await writeFile(path, encodeBase({ ...base, timestamp }));

import { usageError } from '../core/errors.ts';
import type { Cache } from '../image/cache.ts';
import { readEntry } from './flatten.ts';
import type { FlatImage, ImageEntry } from './flatten-types.ts';
import { shown } from './json.ts';

export interface ImageUser {
  uid: number;
  gid: number;
  /** Supplementary groups, sorted, without `gid`. */
  groups: number[];
}

/** Far beyond any image's /etc/passwd. */
const MAX_FILE = 4 << 20;
const MAX_GROUPS = 64;
const MAX_ID = 0xfffffffe;
const MAX_LINKS = 40;
const MAX_STEPS = 1024;

/**
 * Who a USER of an image is (Docker's reference, "USER"): "" (root), "name", "uid", either with ":name" or ":gid". Names are looked up
 * in the image's own /etc/passwd and /etc/group. A uid that /etc/passwd does not know has group 0; supplementary groups
 * are those that /etc/group gives the name, and none where USER names a group. Without an image only numbers mean something.
 *
 * Throws `ERR_IMAGE_USER` (exit 2): an unknown name, a number out of range, files that are too large; what `readEntry` throws.
 */
export async function resolveUser(user: string, flat: FlatImage | null, cache: Cache): Promise<ImageUser> {
  const [name = '', groupName, more] = user.split(':');
  if (more !== undefined) throw badUser(user, 'expected at most one ":"');
  const passwd = await lines('etc/passwd', 7, flat, cache);
  const group = await lines('etc/group', 4, flat, cache);
  const wanted = name === '' ? '0' : name;
  // As in Docker a name of digits is a name first.
  const record = passwd.find(([login]) => login === wanted) ?? passwd.find(([, , uid]) => uid === wanted);
  const uid = idOf(record?.[2] ?? wanted);
  if (uid === null) throw badUser(user, `the image's /etc/passwd has no user "${shown(wanted)}"`);
  if (groupName !== undefined && groupName !== '') {
    const found = group.find(([title]) => title === groupName)?.[2] ?? groupName;
    const gid = idOf(found);
    if (gid === null) throw badUser(user, `the image's /etc/group has no group "${shown(groupName)}"`);
    return { uid, gid, groups: [] };
  }
  const gid = idOf(record?.[3] ?? '0');
  if (gid === null) throw badUser(user, 'its group in /etc/passwd is no number');
  return { uid, gid, groups: record === undefined ? [] : supplementary(record[0] ?? '', gid, group, user) };
}

function supplementary(login: string, gid: number, group: string[][], user: string): number[] {
  const groups = new Set<number>();
  for (const [, , id = '', members = ''] of group) {
    const number = idOf(id);
    if (number !== null && number !== gid && members.split(',').includes(login)) groups.add(number);
  }
  if (groups.size > MAX_GROUPS) throw badUser(user, `it is in ${groups.size} groups, expected at most ${MAX_GROUPS}`);
  return [...groups].sort((a, b) => a - b);
}

const idOf = (text: string): number | null =>
  /^[0-9]{1,10}$/.test(text) && Number(text) <= MAX_ID ? Number(text) : null;

/** Records of a colon-separated file; lines with fewer fields mean nothing, as to everybody. An absent file has none. */
async function lines(path: string, fields: number, flat: FlatImage | null, cache: Cache): Promise<string[][]> {
  const entry = flat && follow(flat, path);
  if (!flat || !entry) return [];
  if (entry.size > MAX_FILE) throw badUser(path, `it has ${entry.size} bytes, expected at most ${MAX_FILE}`);
  const chunks: Uint8Array[] = [];
  if (entry.size > 0) for await (const chunk of readEntry(flat, cache, entry)) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .filter((record) => record.length >= fields);
}

/** The file that a path names inside the image, through symlinks that never leave it; null if there is none. */
function follow(flat: FlatImage, path: string): ImageEntry | null {
  const known = new Map(flat.entries.map((entry) => [entry.path, entry]));
  const at: string[] = [];
  const rest = path.split('/').reverse();
  let entry: ImageEntry | undefined;
  let links = 0;
  for (let steps = 0; rest.length > 0; steps++) {
    const part = rest.pop() ?? '';
    if (steps > MAX_STEPS) return null;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      at.pop();
      continue;
    }
    entry = known.get([...at, part].join('/'));
    if (entry === undefined) return null;
    if (entry.type !== 'symlink') {
      if (entry.type !== 'dir' && rest.length > 0) return null;
      at.push(part);
      continue;
    }
    if (++links > MAX_LINKS) return null;
    const target = entry.target ?? '';
    if (target.startsWith('/')) at.length = 0;
    rest.push(...target.split('/').reverse());
  }
  if (entry?.type === 'link') entry = known.get(entry.target ?? '');
  return entry?.type === 'file' ? entry : null;
}

const badUser = (user: string, why: string) =>
  usageError('ERR_IMAGE_USER', `cannot run as "${shown(user)}": ${why}`, {
    hint: 'name a user that the image has, or "UID:GID", as runtime.user in enclave.toml',
  });

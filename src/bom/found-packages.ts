import type { TreeEntry } from '../image/cpio.ts';
import type { FoundPackage } from './facts.ts';
import { packageJsonLicence } from './licences.ts';
import { order } from './parts.ts';

/** A database of packages is some MB; one file that states a licence far less. Larger ones are not looked into. */
const MAX_DATABASE = 64 << 20;
const MAX_SMALL = 1 << 20;
/** More packages than any image has. */
export const MAX_FOUND = 50_000;

/** Debian's database, also in the pieces that images without dpkg have (distroless). */
const DPKG = /^var\/lib\/dpkg\/(status|status\.d\/(?!.*\.md5sums$)[^/]+)$/;
const APK = /^(lib|usr\/lib)\/apk\/db\/installed$/;
/** The package.json of a package, not one inside of it. */
const NPM = /(^|\/)node_modules\/((@[^/]+\/)?[^/@.][^/]*)\/package\.json$/;

/**
 * The packages that a command's file system holds, by what its own databases say: dpkg's, apk's, and the package.json files of npm. Nothing
 * proves them: whoever made the image can have written anything. `prefix`: where the file system lies ("rootfs/image/").
 */
export async function findPackages(entries: TreeEntry[], prefix: string): Promise<FoundPackage[]> {
  const files = new Map<string, TreeEntry>();
  for (const entry of entries) {
    if (entry.path.startsWith(prefix)) files.set(entry.path.slice(prefix.length), entry);
  }
  const read = async (path: string, most = MAX_SMALL): Promise<string | null> => {
    const entry = follow(files, path, prefix);
    return entry === undefined || entry.size > most ? null : (await bytesOf(entry)).toString('utf8');
  };
  const system = osRelease((await read('etc/os-release')) ?? (await read('usr/lib/os-release')) ?? '');
  const found: FoundPackage[] = [];
  for (const path of [...files.keys()].sort(order)) {
    if (found.length >= MAX_FOUND) break;
    if (files.get(path)?.type === 'dir') continue;
    if (DPKG.test(path)) found.push(...dpkg((await read(path, MAX_DATABASE)) ?? '', `/${path}`, system));
    else if (APK.test(path)) found.push(...apk((await read(path, MAX_DATABASE)) ?? '', `/${path}`, system));
    else if (NPM.test(path)) found.push(...npm((await read(path)) ?? '', `/${path}`));
  }
  for (const each of found) {
    if (each.type !== 'deb') continue;
    const path = `usr/share/doc/${each.name}/copyright`;
    const text = await read(path);
    if (text !== null) each.licence = { kind: 'deb', document: { path, bytes: Buffer.from(text) } };
  }
  return found.slice(0, MAX_FOUND);
}

/** Through links as the command would see them; a loop ends. */
function follow(files: Map<string, TreeEntry>, path: string, prefix: string): TreeEntry | undefined {
  let at: string[] = [];
  let left = path.split('/');
  for (let hops = 0; left.length > 0; ) {
    const [name = '', ...rest] = left;
    left = rest;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      at.pop();
      continue;
    }
    at.push(name);
    const entry = files.get(at.join('/'));
    if (entry?.type !== 'symlink') continue;
    if (++hops > 40) return undefined;
    const target = entry.target ?? '';
    at = target.startsWith('/') ? [] : at.slice(0, -1);
    left = [...target.split('/'), ...left];
  }
  const entry = files.get(at.join('/'));
  if (entry?.type !== 'link') return entry?.type === 'file' ? entry : undefined;
  return files.get((entry.target ?? '').slice(prefix.length));
}

async function bytesOf(entry: TreeEntry): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of entry.open?.() ?? []) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** os-release(5). */
function osRelease(text: string): FoundPackage['distribution'] {
  const value = (name: string) => new RegExp(`^${name}=["']?([a-z0-9._-]+)["']?$`, 'm').exec(text)?.[1];
  const id = value('ID');
  if (id === undefined) return undefined;
  return { id, version: value('VERSION_CODENAME') ?? `${id}-${value('VERSION_ID') ?? 'unknown'}` };
}

const NAME = /^[A-Za-z0-9@/_.+-]{1,214}$/;
const VERSION = /^[\w.+:~-]{1,100}$/;
const isPackage = (name: string | undefined, version: string | undefined): boolean =>
  NAME.test(name ?? '') && VERSION.test(version ?? '');

/** dpkg's status: stanzas of fields (deb-control(5)); what was removed has another Status. */
function dpkg(text: string, path: string, distribution: FoundPackage['distribution']): FoundPackage[] {
  return text.split(/\n\n+/).flatMap((stanza) => {
    const field = (name: string) => new RegExp(`^${name}: *(.*)$`, 'm').exec(stanza)?.[1]?.trim();
    const [name = '', version = '', architecture] = [field('Package'), field('Version'), field('Architecture')];
    const installed = (field('Status') ?? 'install ok installed').endsWith(' installed');
    if (!installed || !isPackage(name, version)) return [];
    const licence = { kind: 'deb' as const, document: null };
    return [{ type: 'deb', name, version, ...optional(architecture, distribution), licence, path }];
  });
}

/** apk's database: P name, V version, A architecture, L licence (wiki: Apk spec). */
function apk(text: string, path: string, distribution: FoundPackage['distribution']): FoundPackage[] {
  return text.split(/\n\n+/).flatMap((stanza) => {
    const field = (letter: string) => new RegExp(`^${letter}:(.*)$`, 'm').exec(stanza)?.[1]?.trim();
    const [name = '', version = '', architecture] = [field('P'), field('V'), field('A')];
    if (!isPackage(name, version)) return [];
    const licence = { kind: 'apk' as const, text: field('L') ?? '' };
    return [{ type: 'apk', name, version, ...optional(architecture, distribution), licence, path }];
  });
}

const optional = (architecture: string | undefined, distribution: FoundPackage['distribution']) => ({
  ...(architecture !== undefined && NAME.test(architecture) ? { architecture } : {}),
  ...(distribution === undefined ? {} : { distribution }),
});

function npm(text: string, path: string): FoundPackage[] {
  try {
    const json = JSON.parse(text) as { name?: unknown; version?: unknown };
    const [name, version] = [String(json.name ?? ''), String(json.version ?? '')];
    if (!isPackage(name, version) || !path.endsWith(`node_modules/${name}/package.json`)) return [];
    return [{ type: 'npm', name, version, licence: { kind: 'npm', text: packageJsonLicence(json) }, path }];
  } catch {
    return [];
  }
}

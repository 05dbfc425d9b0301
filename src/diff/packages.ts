import type { Node } from './nodes.ts';
import { readSome } from './view.ts';

export interface Package {
  /** "Debian package", "npm package". */
  kind: string;
  name: string;
  version: string;
}

/** Which package each file of a tree is of, as the package managers' own records in that tree say. */
export interface PackageIndex {
  /** By kind and name. */
  packages: Map<string, Package>;
  owner(path: string): Package | null;
}

/** Of each record that is read; larger ones are let be. */
const MAX_RECORD = 64 << 20;

/**
 * Reads dpkg's, apk's and npm's records, and those of Python's wheels. They are believed only for a likely cause. Null where a
 * record is there and its bytes are not (a list of files): what is installed is not known then.
 */
export function indexPackages(nodes: Node[]): PackageIndex | null {
  const index = new Records();
  const byPath = new Map(nodes.map((node) => [node.path, node]));
  for (const { path } of nodes) {
    const [, dpkg] = /^(.*?)var\/lib\/dpkg\/status$/.exec(path) ?? [];
    const [, distroless] = /^(.*?)var\/lib\/dpkg\/status\.d\/[^/]+$/.exec(path) ?? [];
    const [, apk] = /^(.*?)lib\/apk\/db\/installed$/.exec(path) ?? [];
    const [, , npm] = /^(.*\/)?(node_modules\/(?:@[^/]+\/)?[^/]+)\/package\.json$/.exec(path) ?? [];
    const wheel = wheelOf(path);
    const isRecord = [dpkg, distroless, apk, npm].some((found) => found !== undefined) || wheel !== null;
    if (isRecord && byPath.get(path)?.data === undefined) return null;
    const read = () => text(byPath.get(path));
    if (dpkg !== undefined) readDpkg(index, dpkg, read(), byPath);
    else if (distroless !== undefined && !path.endsWith('.md5sums'))
      readDistroless(index, distroless, path, read(), byPath);
    else if (apk !== undefined) readApk(index, apk, read());
    else if (wheel) readWheel(index, wheel, read());
    else if (npm !== undefined) readNpm(index, path.slice(0, -'/package.json'.length), read());
  }
  return index;
}

class Records implements PackageIndex {
  readonly packages = new Map<string, Package>();
  readonly #files = new Map<string, Package>();
  /** Directories that are a package's with everything below. */
  readonly #directories = new Map<string, Package>();

  add(kind: string, name: string, version: string): Package {
    const found = { kind, name, version };
    this.packages.set(`${kind} ${name}`, found);
    return found;
  }

  file(path: string, of: Package): void {
    this.#files.set(merged(path), of);
  }

  directory(path: string, of: Package): void {
    this.#directories.set(path, of);
  }

  owner(path: string): Package | null {
    const own = this.#files.get(merged(path));
    if (own) return own;
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      const found = this.#directories.get(path.slice(0, at));
      if (found) return found;
    }
    return null;
  }
}

/** Where /lib is /usr/lib, dpkg may know a file by either name. */
const merged = (path: string): string => path.replace(/(^|\/)usr\/(bin|sbin|lib\w*)\//, '$1$2/');

const text = (node: Node | undefined): string =>
  node?.data === undefined || node.data.size > MAX_RECORD
    ? ''
    : readSome(node.data, 0, node.data.size).toString('utf8');

const field = (paragraph: string, name: string): string =>
  new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1]?.trim() ?? '';

function readDpkg(index: Records, prefix: string, status: string, files: Map<string, Node>): void {
  for (const paragraph of status.split('\n\n')) {
    const [name, version, architecture] = ['Package', 'Version', 'Architecture'].map((key) => field(paragraph, key));
    if (!name || !version) continue;
    const found = index.add('Debian package', name, version);
    const info = `${prefix}var/lib/dpkg/info/`;
    const list = files.get(`${info}${name}.list`) ?? files.get(`${info}${name}:${architecture}.list`);
    for (const line of text(list).split('\n')) if (line.length > 2) index.file(`${prefix}${line.slice(1)}`, found);
    for (const suffix of [
      'list',
      'md5sums',
      'conffiles',
      'postinst',
      'prerm',
      'postrm',
      'preinst',
      'triggers',
      'shlibs',
    ]) {
      index.file(`${info}${name}.${suffix}`, found);
      index.file(`${info}${name}:${architecture}.${suffix}`, found);
    }
  }
}

/** Images without dpkg keep a paragraph per package, and its md5sums as a list of its files. */
function readDistroless(
  index: Records,
  prefix: string,
  path: string,
  paragraph: string,
  files: Map<string, Node>,
): void {
  const [name, version] = [field(paragraph, 'Package'), field(paragraph, 'Version')];
  if (!name || !version) return;
  const found = index.add('Debian package', name, version);
  index.file(path, found);
  index.file(`${path}.md5sums`, found);
  for (const line of text(files.get(`${path}.md5sums`)).split('\n')) {
    const file = line.split(/\s+/, 2)[1];
    if (file) index.file(`${prefix}${file.replace(/^\.?\//, '')}`, found);
  }
}

/** https://wiki.alpinelinux.org/wiki/Apk_spec: P name, V version, F directory, R file in it. */
function readApk(index: Records, prefix: string, installed: string): void {
  for (const paragraph of installed.split('\n\n')) {
    const value = (key: string) => new RegExp(`^${key}:(.*)$`, 'm').exec(paragraph)?.[1] ?? '';
    if (!value('P')) continue;
    const found = index.add('Alpine package', value('P'), value('V'));
    let directory = '';
    for (const line of paragraph.split('\n')) {
      if (line.startsWith('F:')) directory = line.slice(2);
      if (line.startsWith('R:')) index.file(`${prefix}${directory}${directory ? '/' : ''}${line.slice(2)}`, found);
    }
  }
}

function readNpm(index: Records, directory: string, json: string): void {
  try {
    const { name, version } = JSON.parse(json) as Record<string, unknown>;
    if (typeof name !== 'string' || typeof version !== 'string') return;
    index.directory(directory, index.add('npm package', name, version));
  } catch {
    // No package.json that says anything.
  }
}

interface Wheel {
  root: string;
  name: string;
  version: string;
}

/** ROOT/NAME-VERSION.dist-info/RECORD, taken apart from its end: a pattern takes the square of a hostile name's length. */
function wheelOf(path: string): Wheel | null {
  const tail = '.dist-info/RECORD';
  if (!path.endsWith(tail)) return null;
  const stem = path.slice(0, -tail.length);
  const [start, dash] = [stem.lastIndexOf('/') + 1, stem.lastIndexOf('-')];
  if (dash <= start || dash + 1 === stem.length) return null;
  return { root: stem.slice(0, start), name: stem.slice(start, dash), version: stem.slice(dash + 1) };
}

/** PEP 376: path, hash, size per line; paths are relative to the directory that holds the dist-info. */
function readWheel(index: Records, { root, name, version }: Wheel, record: string): void {
  const found = index.add('Python package', name, version);
  index.directory(`${root}${name}-${version}.dist-info`, found);
  for (const line of record.split('\n')) {
    const path = line.split(',', 1)[0];
    if (path && !path.startsWith('.') && !path.startsWith('/')) index.file(`${root}${path}`, found);
  }
}

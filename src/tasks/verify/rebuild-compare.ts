import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';

/** How one output of a rebuild compares with the one that was there. */
export interface RebuiltOutput {
  name: string;
  equal: boolean;
  /** Bytes, of files that are the same. */
  size?: number;
  /** What differs first: "byte 4096", "root/app/program.mjs: byte 12", "missing". */
  difference?: string;
}

const CHUNK = 1 << 20;

/** Compares a file, or everything below a directory, byte by byte; links by where they lead. Nothing is followed. */
export async function compareOutput(name: string, theirs: string, ours: string): Promise<RebuiltOutput> {
  const difference = await differ(theirs, ours);
  const size = lstatSync(ours, { throwIfNoEntry: false })?.size;
  if (difference !== null) return { name, equal: false, difference };
  return { name, equal: true, ...(size === undefined ? {} : { size }) };
}

async function differ(theirs: string, ours: string): Promise<string | null> {
  const [x, y] = [kindOf(theirs), kindOf(ours)];
  if (x === 'nothing') return 'missing';
  if (y === 'nothing') return 'not built';
  if (x !== y) return `${x} where ${y} was built`;
  if (y === 'a link') return readlinkSync(theirs) === readlinkSync(ours) ? null : 'it leads elsewhere';
  if (y === 'a directory') return differDirectories(theirs, ours);
  if (y === 'a file') {
    const at = await firstDifference(theirs, ours);
    return at === null ? null : `byte ${at}`;
  }
  return null;
}

async function differDirectories(theirs: string, ours: string): Promise<string | null> {
  const [a, b] = [readdirSync(theirs), readdirSync(ours)];
  for (const name of [...new Set([...a, ...b])].sort()) {
    if (!b.includes(name)) return `${name}: not built`;
    const found = await differ(join(theirs, name), join(ours, name));
    if (found !== null) return found.includes(': ') ? `${name}/${found}` : `${name}: ${found}`;
  }
  return null;
}

function kindOf(path: string): string {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 'nothing';
  if (stat.isFile()) return 'a file';
  if (stat.isDirectory()) return 'a directory';
  return stat.isSymbolicLink() ? 'a link' : 'something else';
}

/** Offset of the first byte that differs, or of the shorter one's end; null where there is none. */
export async function firstDifference(a: string, b: string): Promise<number | null> {
  const [x, y] = [await open(a), await open(b)];
  try {
    const [p, q] = [Buffer.allocUnsafe(CHUNK), Buffer.allocUnsafe(CHUNK)];
    for (let at = 0; ; ) {
      const [m, n] = await Promise.all([fill(x, p, at), fill(y, q, at)]);
      const length = Math.min(m, n);
      if (!p.subarray(0, length).equals(q.subarray(0, length))) {
        for (let i = 0; ; i++) if (p[i] !== q[i]) return at + i;
      }
      if (m !== n) return at + length;
      if (length === 0) return null;
      at += length;
    }
  } finally {
    await x.close();
    await y.close();
  }
}

async function fill(handle: FileHandle, buffer: Buffer, position: number): Promise<number> {
  for (let done = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, done, buffer.length - done, position + done);
    done += bytesRead;
    if (bytesRead === 0 || done === buffer.length) return done;
  }
}

/** Names the first key in which two values of JSON differ: "nitro.memory_mib"; null where they are the same. */
export function firstKey(a: unknown, b: unknown, at = ''): string | null {
  if (JSON.stringify(sorted(a)) === JSON.stringify(sorted(b))) return null;
  if (!isObject(a) || !isObject(b)) return at === '' ? 'everything' : at;
  for (const key of [...new Set([...Object.keys(a), ...Object.keys(b)])].sort()) {
    const found = firstKey(a[key], b[key], at === '' ? key : `${at}.${key}`);
    if (found !== null) return found;
  }
  return at;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const sorted = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(sorted)
    : isObject(value)
      ? Object.fromEntries(
          Object.entries(value)
            .sort(([x], [y]) => (x < y ? -1 : 1))
            .map(([key, item]) => [key, sorted(item)]),
        )
      : value;

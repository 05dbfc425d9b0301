import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DiffReport, ItemDiff, PartDiff } from '../../../src/diff/index.ts';
import { bytesPart, writeEif } from '../../../src/nitro/index.ts';
import { diff } from '../../../src/tasks/diff.ts';
import { temporaryDirectory } from '../image/fixtures.ts';

export interface TestEntry {
  path: string;
  /** With the type's bits. */
  mode?: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  content?: string | Buffer;
  inode?: number;
  links?: number;
  device?: [number, number];
}

export const DIR = 0o040755;
export const FILE = 0o100644;
export const LINK = 0o120777;
/** linuxkit's time for the files of nitro-cli: 2017-04-18. */
export const TIME = 1_492_533_000;

const align = (bytes: Buffer, to: number): Buffer =>
  Buffer.concat([bytes, Buffer.alloc((to - (bytes.length % to)) % to)]);

function entryBytes(entry: TestEntry, inode: number): Buffer {
  const { path, mode = FILE, uid = 0, gid = 0, mtime = TIME, content = '', links = 1, device = [3, 1] } = entry;
  const [name, data] = [Buffer.from(`${path}\0`), Buffer.from(content as string)];
  const fields = [inode, mode, uid, gid, links, mtime, data.length, ...device, 0, 0, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return Buffer.concat([align(Buffer.concat([Buffer.from(header), name]), 4), align(data, 4)]);
}

/** A ramdisk as linuxkit writes them: inodes from 721, device 3:1, padded to 512. Any order, any field. */
export function newc(entries: TestEntry[]): Buffer {
  const all = entries.map((entry, i) => entryBytes(entry, entry.inode ?? 721 + i));
  return align(Buffer.concat([...all, entryBytes({ path: 'TRAILER!!!', mode: 0, mtime: 0, device: [0, 0] }, 0)]), 512);
}

/** nitro-cli's second ramdisk: an image under rootfs/, cmd and env. */
export const customer = (change: Partial<TestEntry> = {}, more: TestEntry[] = []): TestEntry[] =>
  [
    { path: 'rootfs', mode: DIR },
    { path: 'rootfs/etc', mode: DIR },
    { path: 'rootfs/etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\n' },
    { path: 'rootfs/app', mode: 0o100755, content: Buffer.alloc(5000, 'program ') },
    { path: 'rootfs/sh', mode: LINK, content: 'bin/busybox' },
    ...more,
    { path: 'cmd', content: '/app\n' },
    { path: 'env', content: 'A=b\n' },
  ].map((entry) => ({ ...entry, ...change }));

export interface TestImage {
  kernel?: Buffer;
  cmdline?: string;
  bootstrap?: Buffer;
  ramdisk?: Buffer;
  metadata?: string;
}

export async function writeImage(path: string, image: TestImage = {}): Promise<string> {
  const { kernel = Buffer.from('a kernel'), cmdline = 'console=ttyS0 panic=30', bootstrap, ramdisk, metadata } = image;
  await writeEif({
    kernel: bytesPart(kernel),
    cmdline,
    ramdisks: [bootstrap ?? newc([{ path: 'init', mode: 0o100755, content: 'init' }]), ramdisk ?? newc(customer())].map(
      bytesPart,
    ),
    metadata: metadata === undefined ? undefined : Buffer.from(metadata),
    arch: 'x86_64',
    out: path,
  });
  return path;
}

/** Two images compared. */
export async function compare(a: TestImage, b: TestImage, items?: number): Promise<DiffReport> {
  const dir = temporaryDirectory();
  return diff({ a: await writeImage(join(dir, 'a.eif'), a), b: await writeImage(join(dir, 'b.eif'), b), items });
}

/** Images that differ in the second ramdisk alone. */
export const compareRamdisks = (
  a: TestEntry[] | Buffer,
  b: TestEntry[] | Buffer,
  items?: number,
): Promise<DiffReport> =>
  compare({ ramdisk: Buffer.isBuffer(a) ? a : newc(a) }, { ramdisk: Buffer.isBuffer(b) ? b : newc(b) }, items);

export function partOf(report: DiffReport, name = 'ramdisk1'): PartDiff {
  const part = report.images.flatMap(({ parts }) => parts).find((found) => found.name === name);
  if (!part) throw new Error(`no part ${name}`);
  return part;
}

export function itemOf(report: DiffReport, path: string, part?: string): ItemDiff {
  const item = partOf(report, part).items.find((found) => found.path === path);
  if (!item) throw new Error(`no item ${path} among ${partOf(report, part).items.map((found) => found.path)}`);
  return item;
}

export const causeIds = ({ causes }: { causes: { id: string }[] }): string[] => [
  ...new Set(causes.map(({ id }) => id)),
];

export function writeJson(name: string, document: unknown): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, JSON.stringify(document));
  return path;
}

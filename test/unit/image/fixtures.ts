import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { crc32, gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { onTestFinished } from 'vitest';
import { encodeLock } from '../../../src/image/lock-encode.ts';
import type { DebEntry, Lock, NpmEntry, Rule } from '../../../src/image/lock-file.ts';
import { loadToolkit } from '../../../src/image/toolkit.ts';
import { type TreeFile, treeDigest } from '../../../src/image/tree.ts';

export const REPO = resolve(import.meta.dirname, '../../..');

export function temporaryDirectory(): string {
  const dir = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export type Entry = Partial<Header> & { name: string; content?: string | Buffer };

/** A tar with these entries, as they are. */
export async function makeTar(entries: Entry[]): Promise<Buffer> {
  const tar = pack();
  for (const { content, ...header } of entries) tar.entry(header as Header, content ?? '');
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export function makeAr(members: [string, Buffer][]): Buffer {
  const parts: Buffer[] = [Buffer.from('!<arch>\n')];
  for (const [name, data] of members) {
    const header = `${name.padEnd(16)}${'0'.padEnd(12)}${'0'.padEnd(6)}${'0'.padEnd(6)}${'100644'.padEnd(8)}${String(data.length).padEnd(10)}\`\n`;
    parts.push(Buffer.from(header), data, Buffer.alloc(data.length % 2, '\n'));
  }
  return Buffer.concat(parts);
}

export const makeDeb = (dataName: string, data: Buffer): Buffer =>
  makeAr([
    ['debian-binary', Buffer.from('2.0\n')],
    ['control.tar.gz', gzipSync(Buffer.alloc(1024))],
    [dataName, data],
  ]);

/** An .xz file that stores `data` (at most 64 KiB) in one uncompressed LZMA2 chunk (tukaani.org/xz/xz-file-format.txt). */
export function makeXz(data: Uint8Array): Buffer {
  const u32 = (n: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(n);
    return bytes;
  };
  const withCrc = (bytes: Uint8Array) => Buffer.concat([bytes, u32(crc32(bytes))]);
  const pad4 = (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  const vli = (n: number): number[] => (n < 0x80 ? [n] : [(n & 0x7f) | 0x80, ...vli(n >> 7)]);
  const flags = Buffer.from([0, 1]);
  const blockHeader = withCrc(Buffer.from([2, 0, 0x21, 1, 0x16, 0, 0, 0]));
  const length = data.length - 1;
  const chunk = Buffer.concat([Buffer.from([1, length >> 8, length & 0xff]), data, Buffer.from([0])]);
  const unpadded = blockHeader.length + chunk.length + 4;
  const index = withCrc(pad4(Buffer.from([0, 1, ...vli(unpadded), ...vli(data.length)])));
  const tail = Buffer.concat([u32(index.length / 4 - 1), flags]);
  return Buffer.concat([
    Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]),
    withCrc(flags),
    blockHeader,
    pad4(chunk),
    u32(crc32(data)),
    index,
    u32(crc32(tail)),
    tail,
    Buffer.from('YZ'),
  ]);
}

export const makeNpm = async (entries: Entry[]): Promise<Buffer> => gzipSync(await makeTar(entries));
export const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');
export const integrity = (bytes: Uint8Array): string => `sha512-${createHash('sha512').update(bytes).digest('base64')}`;

/** A server on the loopback interface. Missing paths are 404; `hits` counts what was asked for. */
export async function serve(files: Map<string, Buffer>): Promise<{ url: string; hits: string[] }> {
  const hits: string[] = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '');
    hits.push(path);
    const body = files.get(path);
    response.statusCode = body ? 200 : 404;
    response.end(body);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, hits };
}

/** The entry and the package of a Debian package that keeps these files. */
export async function debEntry(
  name: string,
  files: { from: string; content: string; rule: Omit<Rule, 'from'> }[],
): Promise<{ entry: DebEntry; bytes: Buffer }> {
  const tar = await makeTar(files.map(({ from, content }) => ({ name: `./${from}`, mode: 0o644, content })));
  const bytes = makeDeb('data.tar.gz', gzipSync(tar));
  const kept: TreeFile[] = files.map(({ content, rule }) => ({
    part: rule.part,
    path: rule.to,
    mode: rule.mode ?? '0644',
    size: Buffer.byteLength(content),
    sha256: sha256(content),
  }));
  const entry: DebEntry = {
    name,
    version: '1.0-1',
    architecture: 'amd64',
    suite: 'bookworm',
    path: `pool/${name}_1.0-1_amd64.deb`,
    size: bytes.length,
    sha256: sha256(bytes),
    keep: files.map(({ from, rule }) => ({ from, ...rule })),
    tree: treeDigest(kept),
  };
  return { entry, bytes };
}

export interface TinyProject {
  dir: string;
  cacheDir: string;
  programPath: string;
  mirror: { url: string; hits: string[] };
  files: Map<string, Buffer>;
  lock: Lock;
  writeLock(): void;
}

/** examples/digits with a lock of two small Debian packages, a mirror that has them, and a cache of its own. */
export async function tinyProject(npm: NpmEntry[] = []): Promise<TinyProject> {
  const root = temporaryDirectory();
  const dir = join(root, 'project');
  cpSync(join(REPO, 'examples/digits'), dir, { recursive: true });
  const programPath = join(root, 'program.mjs');
  writeFileSync(programPath, 'console.log("tiny");\n');
  const kernel = await debEntry('linux-image-6.1.0-tiny', [
    { from: 'boot/vmlinuz-6.1.0', content: 'a kernel', rule: { to: 'vmlinuz', part: 'kernel' } },
    { from: 'lib/nsm.ko', content: 'a module', rule: { to: 'modules/nsm.ko', part: 'init' } },
  ]);
  const libc = await debEntry('libc6', [
    { from: 'lib/libc.so.6', content: 'a library'.repeat(1000), rule: { to: 'lib/libc.so.6', part: 'root' } },
    { from: 'bin/tool', content: 'a tool', rule: { to: 'bin/tool', part: 'root', mode: '0755' } },
  ]);
  const files = new Map([kernel, libc].map(({ entry, bytes }) => [`/${entry.path}`, bytes]));
  const { pin } = await loadToolkit(programPath);
  const lock: Lock = {
    version: 1,
    timestamp: 1_700_000_000,
    npm,
    deb: [kernel.entry, libc.entry],
    file: [],
    oci: [],
    toolkit: pin,
  };
  const writeLock = () => writeFileSync(join(dir, 'atoma-tee.lock'), encodeLock(lock));
  writeLock();
  const mirror = await serve(files);
  process.env.ATOMA_TEE_DEBIAN_MIRROR = mirror.url;
  return { dir, cacheDir: join(root, 'cache'), programPath, mirror, files, lock, writeLock };
}

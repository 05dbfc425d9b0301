/**
 * `build` of examples/digits from a warm cache, against the sum of its unavoidable parts done one after the other in
 * one thread: reading and decompressing every locked package, hashing as the format requires (three SHA-384 registers,
 * SHA-256, SHA-384 and CRC-32 of the file), writing the image to the disk. Beside it the same without decompressing,
 * which is what a warm cache really asks for.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, openSync } from 'node:fs';
import { cp, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { crc32, createGunzip } from 'node:zlib';
import { Cache } from '../src/image/cache.ts';
import { findDataMember } from '../src/image/deb.ts';
import { entryDigest, fetchArchive } from '../src/image/fetch.ts';
import { treePin } from '../src/image/inputs.ts';
import { lockEntries } from '../src/image/lock-file.ts';
import { PROGRAM_PATH } from '../src/image/toolkit.ts';
import { unxz } from '../src/image/xz.ts';
import { fileSource, parseEif } from '../src/nitro/index.ts';
import { build } from '../src/tasks/build/index.ts';
import { lockProject } from '../src/tasks/lock/index.ts';
import { interleave, median, report } from './lib.ts';

const dir = await mkdtemp(join(tmpdir(), 'atoma-tee-bench-'));
const project = join(dir, 'project');
await cp(join(import.meta.dirname, '../examples/digits'), project, { recursive: true });
// Any program of ours will do: it is a thousandth of the image.
const programPath = existsSync(PROGRAM_PATH) ? PROGRAM_PATH : import.meta.filename;
const { lock } = await lockProject(project, { update: 'toolkit', programPath });
const cache = await Cache.open();
const run = () => build({ project, programPath });
const [image] = (await run()).images;
if (!image) throw new Error('no image');

const entries = lockEntries(lock);
for (const entry of entries) {
  if ((await cache.archive(entryDigest(entry))) === null) await fetchArchive(entry, cache, { dir: project });
}
const kept = (await Promise.all(entries.map((entry) => cache.tree(treePin(entry))))).flatMap((files) => files ?? []);
const eif = await readFile(image.path);
const source = await fileSource(image.path);
const { sections } = await parseEif(source);
await source.close();

const times = await interleave(5, {
  build: run,
  decompress,
  read: () => Promise.all(kept.map((file) => readFile(cache.filePath(file.sha256)))),
  hash,
  write,
});
await rm(dir, { recursive: true });
for (const [name, values] of Object.entries(times)) console.log(`${name.padEnd(10)} ${median(values).toFixed(0)} ms`);
const [built, decompressed, hashed, written] = [times.build, times.decompress, times.hash, times.write].map(median);
const rest = (hashed ?? 0) + (written ?? 0);
report('build / (read and decompress + hash + write)', (built ?? 0) / ((decompressed ?? 0) + rest), 2);
report('build / (read kept files + hash + write)', (built ?? 0) / (median(times.read) + rest));

async function decompress(): Promise<void> {
  for (const entry of entries) {
    const path = cache.archivePath(entryDigest(entry));
    if (entry.kind === 'npm') {
      await drain(createReadStream(path, { highWaterMark: 1 << 18 }).pipe(createGunzip({ chunkSize: 1 << 18 })));
      continue;
    }
    const handle = await open(path, 'r');
    const { offset, size } = await findDataMember(handle, entry.name);
    await handle.close();
    const fd = openSync(path, 'r');
    await drain(
      await unxz(createReadStream('', { fd, start: offset, end: offset + size - 1, highWaterMark: 1 << 18 })),
    );
  }
}

async function drain(stream: Readable): Promise<void> {
  for await (const _ of stream);
}

function hash(): void {
  const registers = [createHash('sha384'), createHash('sha384'), createHash('sha384')] as const;
  let ramdisks = 0;
  for (const { type, offset, size } of sections) {
    if (type === 'metadata') continue;
    const data = eif.subarray(offset, offset + size);
    const second = type === 'ramdisk' && ramdisks++ > 0;
    registers[0].update(data);
    registers[second ? 2 : 1].update(data);
  }
  for (const register of registers) register.digest();
  createHash('sha256').update(eif).digest();
  createHash('sha384').update(eif).digest();
  crc32(eif);
}

async function write(): Promise<void> {
  const out = await open(join(dir, 'out'), 'w');
  await out.writeFile(eif);
  await out.datasync();
  await out.close();
}

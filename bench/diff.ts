/**
 * `diff` of two images of 500 MB against what one does without it: unpacking both ramdisks with cpio, and cmp of the images.
 * In memory (/dev/shm), where cpio is at its fastest, and on the disk that TMPDIR names. Two cases: every time differs and one
 * file (what a rebuild gives), and no byte.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, cpSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeEntry } from '../src/image/cpio-format.ts';
import { bytesPart, filePart, writeEif } from '../src/nitro/index.ts';
import { diff } from '../src/tasks/diff.ts';
import { interleave, median, report } from './lib.ts';

const BYTES = 500e6;
const ROUNDS = 3;

for (const place of ['/dev/shm', tmpdir()].filter((path) => existsSync(path))) {
  const dir = mkdtempSync(join(place, 'atoma-tee-bench-'));
  try {
    const [a, b] = await images(dir);
    const times = await interleave(ROUNDS, {
      diff: async () => {
        const { verdict } = await diff({ a, b });
        if (verdict !== 'different') throw new Error(verdict);
      },
      equal: () => diff({ a, b: join(dir, 'same.eif') }),
      unpack: () => unpackAndCompare(dir),
    });
    for (const [name, values] of Object.entries(times))
      console.log(`${place} ${name.padEnd(7)} ${median(values).toFixed(0)} ms`);
    report(`${place}: diff / (cpio twice + cmp)`, median(times.diff) / median(times.unpack), 1.5);
    report(`${place}: diff of equal images / (cpio twice + cmp)`, median(times.equal) / median(times.unpack), 1.5);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Some large files and twelve thousand small ones, as a Python image has them. */
async function images(dir: string): Promise<[string, string]> {
  const [a, b] = ['a', 'b'].map((name) => ({ name, fd: openSync(join(dir, `${name}.cpio`), 'w') })) as [Out, Out];
  const put = (path: string, mode: number, content: Buffer, inode: number) => {
    for (const [i, out] of [a, b].entries()) {
      const fields = { inode, mode, uid: 0, gid: 0, nlink: 1, mtime: 1_700_000_000 + i * 86400, size: content.length };
      const bytes = Buffer.concat([encodeEntry(path, fields), content, Buffer.alloc((4 - (content.length % 4)) % 4)]);
      // One file differs in one byte.
      if (i === 1 && path === 'rootfs/big3') bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
      writeSync(out.fd, bytes);
    }
  };
  let inode = 1;
  put('rootfs', 0o040755, Buffer.alloc(0), inode++);
  for (let i = 0; i < 200; i++) put(`rootfs/d${i}`, 0o040755, Buffer.alloc(0), inode++);
  for (let i = 0; i < 12_000; i++) put(`rootfs/d${i % 200}/f${i}`, 0o100644, randomBytes(15_000), inode++);
  for (let i = 0; i < 8; i++) put(`rootfs/big${i}`, 0o100644, randomBytes((BYTES - 180e6) / 8), inode++);
  put('TRAILER!!!', 0, Buffer.alloc(0), 0);
  for (const { name, fd } of [a, b]) {
    closeSync(fd);
    await writeEif({
      kernel: bytesPart(Buffer.from('a kernel')),
      cmdline: 'console=ttyS0',
      ramdisks: [bytesPart(Buffer.from('bootstrap')), await filePart(join(dir, `${name}.cpio`))],
      arch: 'x86_64',
      out: join(dir, `${name}.eif`),
    });
  }
  cpSync(join(dir, 'a.eif'), join(dir, 'same.eif'));
  return [join(dir, 'a.eif'), join(dir, 'b.eif')];
}

interface Out {
  name: string;
  fd: number;
}

/** Ramdisks that somebody has cut out of the images already: that step is given for nothing. */
function unpackAndCompare(dir: string): void {
  // Removing them again is no part of the comparison.
  const round = mkdtempSync(join(dir, 'unpacked-'));
  for (const name of ['a', 'b']) {
    const out = join(round, name);
    mkdirSync(out);
    execFileSync('cpio', ['-i', '--quiet', '-d', '-m'], {
      cwd: out,
      stdio: [openSync(join(dir, `${name}.cpio`), 'r'), 'ignore', 'ignore'],
    });
  }
  try {
    execFileSync('cmp', [join(dir, 'a.eif'), join(dir, 'b.eif')], { stdio: 'ignore' });
  } catch {
    // They differ.
  }
}

import { createHash } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { sha384 } from '../../../src/core/bytes.ts';
import { bytesPart, bytesSource, type EifSource, measureEif, streamEif, writeEif } from '../../../src/nitro/index.ts';
import { smallEif, withDirectory } from './small.ts';

const register = (...data: Buffer[]) => sha384(Buffer.alloc(48), sha384(...data)).toString('hex');
const code = (value: string) => expect.objectContaining({ code: value });
/** Bytes that are not all alike, so that an order or a piece that is wrong shows. */
const bytes = (length: number, seed: number): Buffer => {
  const out = Buffer.alloc(length);
  for (let i = 0; i + 4 <= length; i += 4) out.writeUInt32LE(Math.imul(i + seed, 2654435761) >>> 0, i);
  return out;
};
const kernel = bytes(100_003, 1);
const cmdline = 'console=ttyS0';
const base = Buffer.from(cmdline);

/** Just under and well over the size from which worker threads share the hashing. */
const sizes = [
  ['in this thread', [5_000, 3_000_001]],
  ['in worker threads', [70_000, 12_000_003, 1_500_001]],
  ['in worker threads, one ramdisk', [24_000_001]],
] as const;

describe.each(sizes)('one pass over an image, hashed %s', (_, lengths) => {
  const ramdisks = lengths.map((length, i) => bytes(length, 7 + i));
  const write = (dir: string) =>
    writeEif({
      kernel: bytesPart(kernel),
      cmdline,
      ramdisks: ramdisks.map(bytesPart),
      arch: 'aarch64',
      out: join(dir, 'x.eif'),
    });

  test('registers and digests are those of a plain computation; ramdisks arrive whole and in order', () =>
    withDirectory(async (dir) => {
      const written = await write(dir);
      const seen: { hash: ReturnType<typeof createHash>; ended: boolean }[] = [];
      const found = await streamEif(written.path, {
        fileDigests: ['sha256', 'sha384'],
        onRamdisk(index) {
          expect(index).toBe(seen.length);
          const one = { hash: createHash('sha384'), ended: false };
          seen.push(one);
          return {
            async write(chunk) {
              await new Promise(setImmediate);
              one.hash.update(chunk);
            },
            end() {
              one.ended = true;
            },
          };
        },
      });
      const pcr0 = register(kernel, base, ...ramdisks);
      const pcr1 = register(kernel, base, ...ramdisks.slice(0, 1));
      const pcr2 = register(...ramdisks.slice(1));
      expect(found.measurement).toEqual({ tee: 'nitro', pcr0, pcr1, pcr2 });
      expect(written.measurement).toEqual(found.measurement);
      expect(found.crc.ok).toBe(true);
      expect([found.sha256, found.sha384]).toEqual([written.sha256, written.sha384]);
      const plain = ramdisks.map((ramdisk) => sha384(ramdisk).toString('hex'));
      expect(found.sections.map((s) => s.sha384).slice(2)).toEqual(plain);
      expect(written.parts.map((part) => part.sha384).slice(2)).toEqual(plain);
      expect(seen.map(({ hash }) => hash.digest('hex'))).toEqual(plain);
      expect(seen.every(({ ended }) => ended)).toBe(true);
    }));

  test('a consumer that fails ends the pass with its own error', () =>
    withDirectory(async (dir) => {
      const { path } = await write(dir);
      const onRamdisk = () => ({
        write() {
          throw new Error('no more');
        },
        end() {},
      });
      await expect(streamEif(path, { onRamdisk })).rejects.toThrow('no more');
    }));

  test('a file that is cut short during the pass is refused', () =>
    withDirectory(async (dir) => {
      const { path, size } = await write(dir);
      const onRamdisk = () => {
        truncateSync(path, size - 1);
        return undefined;
      };
      await expect(streamEif(path, { onRamdisk })).rejects.toThrow(code('ERR_EIF_TRUNCATED'));
    }));
});

describe('an image that changes while it is read', () => {
  test('headers that differ from the ones that were checked are refused', async () => {
    const image = await smallEif();
    const source = bytesSource(image);
    // The header is read first to be parsed, then again with everything else.
    let reads = 0;
    const changing: EifSource = {
      ...source,
      read(target, offset) {
        if (offset === 0 && ++reads === 2) image.writeUInt16BE(1, 6);
        return source.read(target, offset);
      },
    };
    await expect(measureEif(changing)).rejects.toThrow(code('ERR_EIF_CHANGED'));
  });

  test('what was handed on is what was measured, though the file says otherwise by then', () =>
    withDirectory(async (dir) => {
      const path = join(dir, 'x.eif');
      const image = await smallEif();
      writeFileSync(path, image);
      const honest = await measureEif(path);
      const handed: Buffer[] = [];
      const found = await streamEif(path, {
        onRamdisk: () => ({
          write(chunk) {
            handed.push(Buffer.from(chunk));
            writeFileSync(path, Buffer.alloc(image.length, 0xff), { flag: 'r+' });
          },
          end() {},
        }),
      }).catch((error) => error.code);
      // The bytes of the second ramdisk's header are gone: refused. Had they stayed, PCR2 would be another one.
      expect(found).toBe('ERR_EIF_CHANGED');
      expect(register(Buffer.from('kernel'), base, handed[0] ?? Buffer.alloc(0))).toBe(honest.measurement.pcr1);
    }));
});

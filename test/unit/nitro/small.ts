import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytesPart, encodeMetadata, writeEif } from '../../../src/nitro/index.ts';

/** A directory that is gone when `use` is done. */
export async function withDirectory<T>(use: (path: string) => Promise<T>): Promise<T> {
  const path = mkdtempSync(join(tmpdir(), 'nitro-'));
  try {
    return await use(path);
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

export const metadata = encodeMetadata({
  imageName: 'small',
  imageVersion: '1',
  buildTime: 0,
  buildTool: 'test',
  buildToolVersion: '0',
  operatingSystem: 'Linux',
  kernelVersion: '6.12.0',
});

/** An image of about a kilobyte, with ramdisks that are any bytes. */
export const smallEif = (
  ramdisks: Uint8Array[] = [Buffer.from('first ramdisk'), Buffer.from('second')],
): Promise<Buffer> =>
  withDirectory(async (dir) => {
    const out = join(dir, 'small.eif');
    await writeEif({
      kernel: bytesPart(Buffer.from('kernel')),
      cmdline: 'console=ttyS0',
      metadata,
      ramdisks: ramdisks.map(bytesPart),
      arch: 'x86_64',
      out,
    });
    return readFileSync(out);
  });

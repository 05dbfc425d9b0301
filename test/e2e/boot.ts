import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bytesPart, fileSource, parseEif, writeEif } from '../../src/nitro/index.ts';

/** The measured parts of an image, to make worse images of. */
export async function partsOf(eif: string) {
  const source = await fileSource(eif);
  try {
    const { sections } = await parseEif(source);
    const read = async (type: string) => {
      const found: Buffer[] = [];
      for (const { offset, size } of sections.filter((section) => section.type === type)) {
        const bytes = Buffer.alloc(size);
        await source.read(bytes, offset);
        found.push(bytes);
      }
      return found;
    };
    const [kernel = Buffer.alloc(0)] = await read('kernel');
    const [cmdline = ''] = (await read('cmdline')).map(String);
    const [init = Buffer.alloc(0), root = Buffer.alloc(0)] = await read('ramdisk');
    return { kernel, cmdline, init, root };
  } finally {
    await source.close();
  }
}

export const writeImage = (out: string, of: { kernel: Buffer; cmdline: string; ramdisks: Buffer[] }) =>
  writeEif({ ...of, kernel: bytesPart(of.kernel), ramdisks: of.ramdisks.map(bytesPart), arch: 'x86_64', out });

/** Processes whose command line names `text`, without those that are ending. */
export const processesNaming = (text: string): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(join('/proc', pid, 'cmdline'), 'utf8').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);

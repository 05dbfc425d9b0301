import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseElf } from '../../../src/gramine/elf.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { elfFile, smallPal, type TestSegment } from './elf-file.ts';

const segment = (fields: Partial<TestSegment> = {}): TestSegment => ({
  offset: 0,
  address: 0,
  fileSize: 0x1000,
  memorySize: 0x1000,
  ...fields,
});
const parse = (...segments: TestSegment[]) => parseElf(elfFile(segments));
const refused = (run: () => unknown, code: string, text: RegExp | string = '') => {
  expect(run).toThrow(expect.objectContaining({ code, exitCode: 2, message: expect.stringMatching(text) }));
};

describe('a libpal.so', () => {
  test('its segments to load, in the order of the headers, and its entry', () => {
    const elf = parse(
      segment({ flags: 6, offset: 0x2010, address: 0x2010, fileSize: 0x10, memorySize: 0x1000 }),
      segment({ type: 4 }),
      segment({ flags: 5 }),
    );
    expect(elf.entry).toBe(0x100);
    expect(elf.segments).toEqual([
      { offset: 0x2010, address: 0x2010, fileSize: 0x10, memorySize: 0x1000, read: true, write: true, execute: false },
      { offset: 0, address: 0, fileSize: 0x1000, memorySize: 0x1000, read: true, write: false, execute: true },
    ]);
  });

  test.skipIf(!haveVectors)('those of the reference vectors', () => {
    for (const name of ['synth-a.so', 'synth-b.so', 'synth-c.so']) {
      expect(parseElf(readFileSync(vectors('gramine/elf', name))).segments.length).toBeGreaterThan(1);
    }
  });
});

describe('hostile libpal.so files', () => {
  const whole = smallPal();
  const headers = 64 + 2 * 56;

  test('cut off anywhere', () => {
    const ends = [...Array(headers).keys(), 0x1000, 0x100f, 0x102f];
    for (const end of ends) refused(() => parseElf(whole.subarray(0, end)), 'ERR_ELF_MALFORMED');
    expect(parseElf(whole.subarray(0, 0x1030)).segments).toHaveLength(2);
  });

  test.each([
    ['no ELF at all', 0, 0x4d, 'ERR_ELF_MALFORMED'],
    ['32 bits', 4, 1, 'ERR_ELF_KIND'],
    ['big-endian', 5, 2, 'ERR_ELF_KIND'],
    ['an object file', 16, 1, 'ERR_ELF_KIND'],
    ['a core dump', 16, 4, 'ERR_ELF_KIND'],
    ['for ARM', 18, 183, 'ERR_ELF_KIND'],
    ['headers of another size', 54, 32, 'ERR_ELF_MALFORMED'],
  ])('%s', (_, at, value, code) => {
    const file = smallPal();
    file[at] = value;
    refused(() => parseElf(file), code);
  });

  test('program headers that lie behind the end, or near 2^64', () => {
    for (const offset of [BigInt(whole.length) - 111n, 1n << 40n, (1n << 64n) - 56n, (1n << 64n) - 1n]) {
      const file = smallPal();
      file.writeBigUInt64LE(offset, 32);
      refused(() => parseElf(file), 'ERR_ELF_MALFORMED', /program headers/);
    }
  });

  test('an endless number of program headers (PN_XNUM)', () => {
    const file = smallPal();
    file.writeUInt16LE(0xffff, 56);
    refused(() => parseElf(file), 'ERR_ELF_MALFORMED');
  });

  test('nothing to load', () => {
    refused(() => parse(segment({ type: 4 })), 'ERR_ELF_MALFORMED', /none/);
  });

  test('more segments than Gramine loads', () => {
    const many = (count: number) =>
      Array.from({ length: count }, (_, i) => segment({ address: i * 0x1000, fileSize: 0, memorySize: 0x1000 }));
    expect(parse(...many(16)).segments).toHaveLength(16);
    refused(() => parse(...many(17)), 'ERR_ELF_MALFORMED', /16/);
  });

  const huge = (1n << 64n) - 0x1000n;
  test.each<[string, Partial<TestSegment>]>([
    ['more file than there is', { fileSize: 0x3001, memorySize: 0x4000 }],
    ['a place behind the end of the file', { offset: 0x4000 }],
    ['an offset near 2^64', { offset: huge }],
    [
      'a file size near 2^64, which wraps around with its offset',
      { offset: 0x1000, address: 0x1000, fileSize: huge, memorySize: huge },
    ],
    ['a memory size near 2^64', { memorySize: huge }],
    ['an address near 2^64, which wraps around with its size', { address: huge, memorySize: 0x2000 }],
    ['an address that no user program has', { address: 1n << 47n }],
    ['less memory than file', { memorySize: 0xfff }],
    ['an offset that no page of its address has', { offset: 0x10, address: 0x20, fileSize: 0x10 }],
  ])('a segment with %s', (_, fields) => {
    refused(() => parse(segment(fields)), 'ERR_ELF_MALFORMED');
  });

  test.each<[string, TestSegment[]]>([
    ['the same pages', [segment(), segment()]],
    [
      'one page at their edges',
      [segment({ fileSize: 0x10, memorySize: 0x10 }), segment({ offset: 0x20, address: 0x20, fileSize: 0x10 })],
    ],
    ['pages, the later one first', [segment({ address: 0x1000, memorySize: 0x1000 }), segment({ memorySize: 0x1001 })]],
    ['a page inside of the other', [segment({ fileSize: 0, memorySize: 0x9000 }), segment({ address: 0x4000 })]],
  ])('two segments that share %s', (_, segments) => {
    refused(() => parse(...segments), 'ERR_ELF_MALFORMED', /share no page/);
  });

  test('an entry point that is no address', () => {
    refused(() => parseElf(elfFile([segment()], { entry: (1n << 64n) - 1n })), 'ERR_ELF_MALFORMED', /entry/);
  });

  test('every byte of the headers changed to other values: refused or read, never a crash', () => {
    for (let at = 0; at < headers; at++) {
      for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
        const file = smallPal();
        file[at] = value;
        try {
          const { segments } = parseElf(file);
          for (const { offset, fileSize } of segments) expect(offset + fileSize).toBeLessThanOrEqual(file.length);
        } catch (error) {
          expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_ELF_/) });
        }
      }
    }
  });
});

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { indexArchive } from '../../../src/diff/archive.ts';
import { compareTrees } from '../../../src/diff/tree.ts';
import { bytesView } from '../../../src/diff/view.ts';
import { renderDiffPage } from '../../../src/report/diff-page.ts';
import { diffTree } from '../../../src/report/diff-tree.ts';
import { diff } from '../../../src/tasks/diff.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import { compareRamdisks, customer, newc, partOf, writeImage, writeJson } from './fixtures.ts';

const other = newc(customer({}, [{ path: 'rootfs/new' }]));

describe('ramdisks that are no archives', () => {
  const whole = newc(customer());

  test.each([
    ['truncated in a content', whole.subarray(0, 700), /ends behind the end/],
    ['truncated in a header', whole.subarray(0, 50), /inside an entry header/],
    ['garbage', Buffer.alloc(4096, 0xee), /expected an archive entry/],
    [
      'a header that is not hex',
      Buffer.concat([Buffer.from(`070701${'z'.repeat(104)}`), Buffer.alloc(400)]),
      /hexadecimal/,
    ],
    [
      'a name of 4 GiB',
      Buffer.concat([Buffer.from(`070701${'f'.repeat(104)}`), Buffer.alloc(400)]),
      /name of 4294967295/,
    ],
    ['an archive, then garbage', Buffer.concat([whole, Buffer.alloc(200, 'garbage!')]), /expected an archive entry/],
    ['gzip cut short', gzipSync(whole).subarray(0, 200), /gzip does not unpack/],
    ['bzip2, which is not unpacked', Buffer.from('BZh91AY&SY'), /bzip2, which is not unpacked/],
  ])('%s: told, and the bytes compared', async (_, ramdisk, problem) => {
    const report = await compareRamdisks(ramdisk, other);
    expect(report.verdict).toBe('different');
    expect(partOf(report).problems.join()).toMatch(problem);
    expect(partOf(report).causes.length).toBeGreaterThan(0);
  });

  test('a bomb is unpacked no further than 64 MiB', async () => {
    const bomb = gzipSync(Buffer.alloc(80 << 20));
    expect(bomb.length).toBeLessThan(100_000);
    const report = await compareRamdisks(bomb, other);
    expect(partOf(report).problems).toEqual([expect.stringContaining('unpack to more than 67108864')]);
  });

  test('one name twenty thousand times', async () => {
    const entries = Array.from({ length: 20_000 }, () => ({ path: 'x' }));
    const report = await compareRamdisks(entries, entries.slice(1), 3);
    expect(partOf(report)).toMatchObject({ items: [{ path: 'x', changes: [{ what: 'removed' }] }], omitted: 0 });
  });
});

test('an archive with any byte changed, or cut anywhere: listed as far as it goes, never thrown', () => {
  const whole = newc(customer({}, [{ path: 'rootfs/one', content: 'x', links: 2, inode: 7 }]));
  const seed = indexArchive(bytesView(whole)).nodes;
  expect(seed).toHaveLength(8);
  let differed = 0;
  for (let at = 0; at < whole.length; at += 3) {
    const changed = Buffer.from(whole);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    for (const bytes of [changed, whole.subarray(0, at)]) {
      const { nodes, problem } = indexArchive(bytesView(bytes));
      const { nodes: differing, order, numbering, raw } = compareTrees(seed, nodes, true);
      if (problem || differing.length > 0 || order || numbering || raw > 0) differed++;
    }
  }
  expect(differed).toBeGreaterThan(whole.length / 4);
});

test('a truncated image is refused', async () => {
  const dir = temporaryDirectory();
  const path = await writeImage(join(dir, 'a.eif'));
  writeFileSync(join(dir, 'b.eif'), readFileSync(path).subarray(0, 1500));
  await expect(diff({ a: path, b: join(dir, 'b.eif') })).rejects.toMatchObject({
    code: 'ERR_EIF_TRUNCATED',
    exitCode: 2,
  });
});

test('an image whose CRC is wrong is compared, and called damaged', async () => {
  const dir = temporaryDirectory();
  const path = await writeImage(join(dir, 'a.eif'));
  const bytes = readFileSync(path);
  bytes.writeUInt32BE((bytes.readUInt32BE(544) ^ 1) >>> 0, 544);
  writeFileSync(join(dir, 'b.eif'), bytes);
  expect((await diff({ a: path, b: join(dir, 'b.eif') })).notes).toEqual([expect.stringContaining('B is damaged')]);
});

describe('names and contents that want to be more', () => {
  const name = 'rootfs/\u001b[31m\u202e<script>alert(1)</script>\n"onload=';
  const report = () =>
    compareRamdisks(
      customer({}, [{ path: name, content: 'a <b>\u001b]0;x\u0007\nsame' }]),
      customer({}, [{ path: name, content: 'b <img src=x>\u001b[2J\nsame' }]),
    );

  test('no escape sequence reaches the terminal', async () => {
    const text = diffTree(await report());
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(text.replace(/\u001b\[[\d;]*m/g, '')).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f\u202e]/);
    expect(text).toContain('<script>alert(1)</script>');
  });

  test('no markup of theirs is in the page, which loads and runs nothing', async () => {
    const page = renderDiffPage(await report(), '1.0');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(page).not.toMatch(/<script|<img|onload="|\u001b|\u202e/);
    expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
    expect(page).toContain('default-src &#39;none&#39;');
    expect(page).not.toMatch(/https?:|src=["']|url\(/);
  });
});

describe('inputs that are nothing', () => {
  test.each([
    ['text', 'hello'],
    ['JSON without a measurement', '{"a":1}'],
    ['a PCR that is too short', '{"Measurements":{"PCR0":"00","PCR1":"00","PCR2":"00"}}'],
    ['a list', '[1,2]'],
  ])('%s', async (_, content) => {
    const path = join(temporaryDirectory(), 'x');
    writeFileSync(path, content);
    await expect(diff({ a: path, b: path })).rejects.toMatchObject({ code: 'ERR_DIFF_INPUT', exitCode: 2 });
  });

  test('a directory without an image, one with two, a file that is not there', async () => {
    const dir = temporaryDirectory();
    await expect(diff({ a: dir, b: dir })).rejects.toMatchObject({ code: 'ERR_DIFF_INPUT' });
    await writeImage(join(dir, 'a.eif'));
    expect((await diff({ a: dir, b: dir })).verdict).toBe('equal');
    await writeImage(join(dir, 'b.eif'));
    await expect(diff({ a: dir, b: dir })).rejects.toMatchObject({ code: 'ERR_DIFF_INPUT' });
    await expect(diff({ a: join(dir, 'c'), b: dir })).rejects.toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
      exitCode: 2,
    });
  });

  test('an image for Nitro and an SGX measurement', async () => {
    const dir = temporaryDirectory();
    const sgx = writeJson('m.json', { tee: 'sgx', mrenclave: 'ab'.repeat(32) });
    await expect(diff({ a: await writeImage(join(dir, 'a.eif')), b: sgx })).rejects.toMatchObject({
      code: 'ERR_DIFF_TARGETS',
      exitCode: 2,
    });
  });
});

describe('bytes behind a compressed archive, which a kernel unpacks and zlib passes over', () => {
  const [whole, evil] = [newc(customer()), newc([{ path: 'init', mode: 0o100755, content: 'another' }])];

  test.each([
    ['gzip', (bytes: Buffer) => gzipSync(bytes), Buffer.concat([Buffer.alloc(8), evil])],
    ['gzip', (bytes: Buffer) => gzipSync(bytes), Buffer.concat([Buffer.alloc(8), gzipSync(evil)])],
    ['zstd', (bytes: Buffer) => zstdCompressSync(bytes), evil],
    ['zstd', (bytes: Buffer) => zstdCompressSync(bytes), zstdCompressSync(evil)],
  ])('%s: are told, and no compressor is blamed for them', async (name, pack, behind) => {
    const report = await compareRamdisks(pack(whole), Buffer.concat([pack(whole), behind]));
    const part = partOf(report);
    expect(part.problems).toEqual([expect.stringMatching(`B: \\d+ bytes behind its ${name} were not looked at`)]);
    expect(part.causes.map(({ id }) => id)).toEqual(['unknown']);
    expect(part.context?.offset).toBe(pack(whole).length);
  });

  test('zeros are padding', async () => {
    const report = await compareRamdisks(gzipSync(whole), Buffer.concat([gzipSync(whole), Buffer.alloc(512)]));
    expect(partOf(report)).toMatchObject({ problems: [], causes: [{ id: 'compressor' }] });
  });

  test('also in a file: it is not the same content compressed otherwise', async () => {
    const file = (content: Buffer) => newc([{ path: 'a.gz', content }]);
    const packed = gzipSync('hello');
    const report = await compareRamdisks(file(packed), file(Buffer.concat([packed, Buffer.from('\0EVIL')])));
    expect(partOf(report).causes.map(({ id }) => id)).toEqual(['unknown']);
  });
});

test('names that nearly are those of a Python package take no square of their length', async () => {
  const entries = Array.from({ length: 200 }, (_, i) => ({ path: `${i}${'a-'.repeat(2000)}.dist-info/RECORD` }));
  const report = await compareRamdisks(
    [...entries, { path: 'f', content: 'a' }],
    [...entries, { path: 'f', content: 'b' }],
  );
  expect(partOf(report).items.map(({ path }) => path)).toEqual(['f']);
}, 10_000);

test('a PCR8 that a measurement states and an unsigned image has not is a difference', async () => {
  const dir = temporaryDirectory();
  const image = await writeImage(join(dir, 'a.eif'));
  const { images } = await diff({ a: image, b: image });
  const registers = Object.fromEntries(images[0]?.registers.map(({ name, a }) => [name, a]) ?? []);
  const signed = writeJson('signed.json', { ...registers, pcr8: 'ab'.repeat(48) });
  const bare = writeJson('bare.json', registers);
  expect((await diff({ a: signed, b: image })).verdict).toBe('different');
  expect((await diff({ a: image, b: signed })).verdict).toBe('different');
  expect((await diff({ a: bare, b: image })).verdict).toBe('equal');
});

test('of a list of several enclaves none is chosen', async () => {
  const of = (digit: string) => ({
    Measurements: { PCR0: digit.repeat(96), PCR1: digit.repeat(96), PCR2: digit.repeat(96) },
  });
  const two = writeJson('two.json', [of('1'), of('2')]);
  const one = writeJson('one.json', [of('1'), of('1')]);
  await expect(diff({ a: two, b: one })).rejects.toMatchObject({ code: 'ERR_DIFF_INPUT', exitCode: 2 });
  expect((await diff({ a: one, b: one })).verdict).toBe('equal');
});

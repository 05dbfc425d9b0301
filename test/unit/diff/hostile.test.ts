import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
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

import { copyFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { indexArchive } from '../../../src/diff/archive.ts';
import type { DiffReport } from '../../../src/diff/index.ts';
import { digestOf } from '../../../src/diff/nodes.ts';
import { bytesView } from '../../../src/diff/view.ts';
import { encodeMeasurements, type MeasuredFile, measuredFiles } from '../../../src/manifest/measurements.ts';
import { measureEif } from '../../../src/nitro/index.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { diff } from '../../../src/tasks/diff.ts';
import { gramineProject } from '../gramine/project.ts';
import { sha256, temporaryDirectory } from '../image/fixtures.ts';
import { customer, itemOf, newc, partOf, type TestEntry, TIME, writeImage } from './fixtures.ts';

/** One side is measurements.json without its image: what no list tells is neither compared nor explained. */

const files = (archive: Buffer): MeasuredFile[] =>
  measuredFiles(
    indexArchive(bytesView(archive)).nodes.map((node) => ({
      ...{ path: node.path, type: node.type as MeasuredFile['type'], mode: node.mode ?? 0, size: node.size },
      ...{ uid: node.uid ?? 0, gid: node.gid ?? 0, sha256: digestOf(node) ?? undefined, target: node.target },
    })) as Parameters<typeof measuredFiles>[0],
  );

/** A's image, of which the list alone is left, and B's image; both orders are compared. */
async function compareListed(a: TestEntry[], b: TestEntry[] | Buffer, withFiles = true): Promise<DiffReport> {
  const dir = temporaryDirectory();
  const image = await writeImage(join(dir, 'a.eif'), { ramdisk: newc(a) });
  const { measurement, sections } = await measureEif(image);
  const bytes = readFileSync(image);
  let ramdisks = 0;
  const parts = sections
    .filter(({ type }) => type !== 'metadata' && type !== 'signature')
    .map(({ type, size, sha384 }) => {
      const name = type === 'ramdisk' ? `ramdisk${ramdisks++}` : type;
      return { name, size, sha384, ...(name === 'ramdisk1' && withFiles ? { files: files(newc(a)) } : {}) };
    });
  const list = join(dir, 'measurements.json');
  writeFileSync(
    list,
    encodeMeasurements({
      version: 1,
      images: [{ target: 'nitro', file: 'a.eif', size: bytes.length, sha256: sha256(bytes), measurement, parts }],
    }),
  );
  rmSync(image);
  const other = await writeImage(join(dir, 'b.eif'), { ramdisk: Buffer.isBuffer(b) ? b : newc(b) });
  const report = await diff({ a: list, b: other });
  const reverse = await diff({ a: other, b: list });
  expect(reverse.causes).toEqual(report.causes);
  expect(partOf(reverse).changes.map(({ what }) => what)).toEqual(partOf(report).changes.map(({ what }) => what));
  return report;
}

const rewritten = (): TestEntry[] =>
  customer({ mtime: TIME + 99, device: [8, 3] })
    .map((entry, i) => ({ ...entry, path: `./${entry.path}`, inode: 9000 - 3 * i }))
    .toReversed();

test('the same files, written otherwise: no header, order, number or time is made up for the list', async () => {
  const report = await compareListed(customer(), rewritten());
  expect(report.verdict).toBe('different');
  expect(partOf(report)).toMatchObject({ changes: [], items: [], groups: [] });
  expect(report.causes).toEqual([{ id: 'unknown', reason: expect.stringContaining('is in no list'), count: 1 }]);
});

test('one file of many: that file alone', async () => {
  const changed = rewritten().map((entry) => (entry.path === './cmd' ? { ...entry, content: '/evil\n' } : entry));
  const report = await compareListed(customer(), changed);
  expect(partOf(report).changes).toEqual([]);
  expect(partOf(report).items.map(({ path, changes }) => [path, changes.map(({ what }) => what)])).toEqual([
    ['cmd', ['content']],
  ]);
  expect(report.causes).toMatchObject([{ id: 'unknown', count: 1 }]);
});

test('a compressed ramdisk: the list does not say whether its own was', async () => {
  const report = await compareListed(customer(), gzipSync(newc(customer())));
  expect(partOf(report)).toMatchObject({ changes: [], items: [], causes: [{ id: 'unknown' }] });
});

test('packages whose records only one side can show are not said to be on one side only', async () => {
  const module = (version: string): TestEntry[] => [
    { path: 'rootfs/node_modules/x/package.json', content: JSON.stringify({ name: 'x', version }) },
    { path: 'rootfs/node_modules/x/index.js', content: `version ${version}` },
  ];
  const report = await compareListed(customer({}, module('1.0.0')), customer({}, module('1.0.1')));
  expect(itemOf(report, 'rootfs/node_modules/x/index.js').causes).toMatchObject([{ id: 'unknown' }]);
  const gone = await compareListed(customer(), customer({}, module('1.0.0')));
  expect(itemOf(gone, 'rootfs/node_modules/x/index.js').causes).toMatchObject([
    { id: 'package', reason: expect.stringContaining('x 1.0.0 is in one image only') },
  ]);
});

test('a list without the files of a ramdisk says no more than that it differs', async () => {
  const report = await compareListed(customer(), rewritten(), false);
  expect(partOf(report)).toMatchObject({ changes: [], items: [] });
  expect(report.causes).toMatchObject([{ id: 'unknown', reason: expect.stringContaining('nor a list') }]);
});

test('two names of an empty file are no other file in a list', async () => {
  const links = ['a', 'b'].map((path) => ({ path: `rootfs/${path}`, inode: 5, links: 2 }));
  const list = files(newc(customer({}, links)));
  expect(list.find(({ path }) => path === 'rootfs/b')).toMatchObject({ type: 'link', target: 'rootfs/a' });
});

test('Gramine: a manifest without libpal.so against one with it, or against a list, differs in nothing', async () => {
  const project = await gramineProject(['gramine']);
  const { dir, cacheDir, programPath } = project;
  await build({ project: dir, cacheDir, programPath });
  const dist = join(dir, 'dist');
  const alone = temporaryDirectory();
  for (const name of ['digits.manifest.sgx', 'digits.sig']) copyFileSync(join(dist, name), join(alone, name));
  const list = join(temporaryDirectory(), 'list');
  cpSync(join(dist, 'measurements.json'), join(list, 'measurements.json'));
  const [manifest, bare] = [join(dist, 'digits.manifest.sgx'), join(alone, 'digits.manifest.sgx')];
  for (const [a, b] of [
    [manifest, bare],
    [bare, manifest],
    [list, bare],
    [bare, list],
    [manifest, list],
  ] as const) {
    const report = await diff({ a, b });
    expect([report.verdict, report.causes], `${a} ${b}`).toEqual(['equal', []]);
  }
});

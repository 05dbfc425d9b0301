import { Buffer } from 'node:buffer';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { makeXz } from '../image/fixtures.ts';
import {
  causeIds,
  compare,
  compareRamdisks,
  customer,
  DIR,
  FILE,
  itemOf,
  LINK,
  newc,
  partOf,
  TIME,
} from './fixtures.ts';

/** What builds really drift by, each told by its name. */

const statusOf = (report: Awaited<ReturnType<typeof compare>>) =>
  Object.fromEntries(report.images.flatMap(({ registers }) => registers).map(({ name, status }) => [name, status]));

test('two images of the same bytes are equal', async () => {
  const report = await compare({}, {});
  expect(report).toMatchObject({ verdict: 'equal', causes: [], notes: [] });
  expect(statusOf(report)).toEqual({ pcr0: 'equal', pcr1: 'equal', pcr2: 'equal' });
});

test('two ramdisks of nitro-cli that differ only in times: the clock, and which registers', async () => {
  const report = await compareRamdisks(customer(), customer({ mtime: TIME + 86400 }));
  expect(report.verdict).toBe('different');
  expect(statusOf(report)).toEqual({ pcr0: 'different', pcr1: 'equal', pcr2: 'different' });
  expect(report.images[0]?.registers.map(({ because }) => because)).toEqual([['ramdisk1'], [], ['ramdisk1']]);
  expect(causeIds(report)).toEqual(['clock']);
  expect(itemOf(report, 'rootfs/app').changes).toEqual([
    { what: 'time', a: '2017-04-18T16:30:00Z', b: '2017-04-19T16:30:00Z' },
  ]);
  expect(partOf(report).groups).toEqual([{ what: 'time', count: 7, causes: ['clock'] }]);
});

test('modes that another umask gives, and one that none gives', async () => {
  const more = [{ path: 'rootfs/tool', mode: 0o100755 }];
  const [a, b] = [customer({}, more), customer({}, more)];
  for (const entry of b) if (entry.mode === DIR) entry.mode = 0o040750;
  for (const entry of b) if (entry.path === 'rootfs/tool') entry.mode = 0o104755;
  const report = await compareRamdisks(a, b);
  expect(itemOf(report, 'rootfs/etc')).toMatchObject({
    changes: [{ what: 'mode', a: '0755', b: '0750' }],
    causes: [{ id: 'umask' }],
  });
  expect(itemOf(report, 'rootfs/tool')).toMatchObject({
    changes: [{ what: 'mode', a: '0755', b: '4755' }],
    causes: [{ id: 'unknown' }],
  });
});

test('owners', async () => {
  const report = await compareRamdisks(customer(), customer({ uid: 1000, gid: 1000 }));
  expect(causeIds(report)).toEqual(['owner']);
  expect(itemOf(report, 'cmd').changes).toEqual([{ what: 'owner', a: '0:0', b: '1000:1000' }]);
});

describe('the order of entries alone', () => {
  const names = ['a', 'B', 'c', 'D'].map((path) => ({ path, inode: 1 }));
  const sorted = (compare: (a: string, b: string) => number) => [...names].sort((p, q) => compare(p.path, q.path));
  const bytes = sorted((a, b) => (a < b ? -1 : 1));

  test('as a locale sorts: the locale', async () => {
    const report = await compareRamdisks(bytes, sorted(new Intl.Collator('en').compare));
    expect(partOf(report)).toMatchObject({ items: [], changes: [{ what: 'order', a: 'B', b: 'a' }] });
    expect(report.causes).toMatchObject([{ id: 'locale' }]);
  });

  test('as a directory gives them', async () => {
    const [first, ...rest] = bytes;
    const report = await compareRamdisks(bytes, [...rest.toReversed(), first as { path: string }]);
    expect(report.causes).toMatchObject([
      { id: 'directory-order', reason: expect.stringContaining('B is not sorted') },
    ]);
  });
});

test('inode and device numbers of another file system', async () => {
  const moved = customer().map((entry, i) => ({ ...entry, inode: 90_000 + 7 * i, device: [8, 3] as [number, number] }));
  const report = await compareRamdisks(customer(), moved);
  expect(partOf(report)).toMatchObject({ items: [], changes: [{ what: 'numbering' }] });
  expect(report.causes).toMatchObject([{ id: 'numbering', reason: expect.stringContaining('renumber') }]);
});

describe('one archive, compressed in two ways', () => {
  const archive = newc(customer());
  const stamped = (seconds: number) => {
    const bytes = gzipSync(archive);
    bytes.writeUInt32LE(seconds, 4);
    return bytes;
  };

  test('by levels of gzip: the compressor', async () => {
    const report = await compareRamdisks(gzipSync(archive, { level: 1 }), gzipSync(archive, { level: 9 }));
    expect(partOf(report)).toMatchObject({ items: [], changes: [{ what: 'compression' }] });
    expect(report.causes).toMatchObject([{ id: 'compressor', reason: expect.stringContaining('same bytes') }]);
  });

  test('with a time in the gzip header: the clock', async () => {
    const report = await compareRamdisks(stamped(TIME), stamped(TIME + 60));
    expect(report.causes).toMatchObject([{ id: 'clock', reason: expect.stringContaining('2017-04-18T16:30:00') }]);
  });

  test.each([
    ['gzip and none', gzipSync(archive), archive],
    ['zstd and gzip', zstdCompressSync(archive), gzipSync(archive)],
    ['xz and none', makeXz(archive), archive],
  ])('%s: the compressor', async (_, a, b) => {
    expect((await compareRamdisks(a, b)).causes).toMatchObject([{ id: 'compressor' }]);
  });

  test('files inside of compressed ramdisks are compared', async () => {
    const other = newc(customer({}, [{ path: 'rootfs/new', content: 'x' }]));
    const report = await compareRamdisks(gzipSync(archive), gzipSync(other));
    expect(itemOf(report, 'rootfs/new').changes).toEqual([{ what: 'added', a: null, b: 'file, 0644, 1 bytes' }]);
  });
});

test('the command line: argument by argument', async () => {
  const report = await compare({}, { cmdline: 'console=ttyS0 panic=-1 quiet' });
  const part = partOf(report, 'cmdline');
  expect(part.registers).toEqual(['pcr0', 'pcr1']);
  expect(part.context?.lines?.filter(({ op }) => op !== ' ')).toEqual([
    { op: '-', text: 'panic=30' },
    { op: '+', text: 'panic=-1' },
    { op: '+', text: 'quiet' },
  ]);
  expect(report.causes).toMatchObject([{ id: 'configuration' }]);
});

describe('kernels', () => {
  /** The part of an x86 kernel's header that names its version. */
  const kernel = (version: string): Buffer => {
    const bytes = Buffer.alloc(0x1000);
    bytes.write('HdrS', 0x202, 'latin1');
    bytes.writeUInt16LE(0x300, 0x20e);
    bytes.write(`${version}\0`, 0x500, 'latin1');
    return bytes;
  };

  test.each([
    ['6.12.9 (a@b) #1 Mon Jan 5', '6.12.9 (a@c) #1 Tue Jan 6', 'clock'],
    ['6.12.9 (a@b) #1', '6.12.10 (a@b) #1', 'kernel'],
  ])('%s and %s: %s', async (a, b, id) => {
    const report = await compare({ kernel: kernel(a) }, { kernel: kernel(b) });
    expect(report.causes).toMatchObject([{ id, reason: expect.stringContaining(b) }]);
  });
});

describe('what the differing bytes of a file say', () => {
  const file = (path: string, content: string | Buffer) => customer({}, [{ path, content }]);
  const causesOf = async (path: string, a: string | Buffer, b: string | Buffer) =>
    itemOf(await compareRamdisks(file(path, a), file(path, b)), path).causes;

  test.each([
    ['rootfs/b', 'built 2026-01-01T10:00:00Z by x', 'built 2026-02-03T11:12:13Z by x', 'clock'],
    ['rootfs/b', 'at /home/ann/app/main.c line 1', 'at /build/app/main.c line 1', 'path'],
    ['rootfs/b', 'at /home/ann/app/main.c line 1', 'at /home/ann/app/other.c line 1', 'unknown'],
    ['rootfs/var/log/apt/history.log', 'one', 'two', 'machine-state'],
    ['rootfs/etc/machine-id', 'aa', 'bb', 'machine-state'],
    [
      'rootfs/m.pyc',
      Buffer.from('a70d0d0a0000000011111111', 'hex'),
      Buffer.from('a70d0d0a0000000022111111', 'hex'),
      'unknown',
    ],
    [
      'rootfs/m.pyc',
      Buffer.from('a70d0d0a000000001111111100', 'hex'),
      Buffer.from('a70d0d0a000000002211111100', 'hex'),
      'clock',
    ],
    [
      'rootfs/doc.gz',
      gzipSync('text'.repeat(99), { level: 1 }),
      gzipSync('text'.repeat(99), { level: 9 }),
      'compressor',
    ],
    ['rootfs/doc.gz', gzipSync('text'), gzipSync('other'), 'unknown'],
  ])('%s: %s', async (path, a, b, id) => {
    expect(await causesOf(path, a, b)).toMatchObject([{ id }]);
  });

  test('text: a line diff; bytes: rows around the first that differs, and how many do', async () => {
    const lines = Array.from({ length: 40 }, (_, i) => `line ${i}`);
    const text = itemOf(
      await compareRamdisks(file('rootfs/t', lines.join('\n')), file('rootfs/t', lines.with(20, 'changed').join('\n'))),
      'rootfs/t',
    ).context;
    expect(text?.lines).toEqual([
      { op: ' ', text: 'line 18' },
      { op: ' ', text: 'line 19' },
      { op: '-', text: 'line 20' },
      { op: '+', text: 'changed' },
      { op: ' ', text: 'line 21' },
      { op: ' ', text: 'line 22' },
    ]);
    const [x, y] = [Buffer.alloc(3_000_000, 7), Buffer.alloc(3_000_000, 7)];
    for (const at of [2_000_003, 2_500_000]) y[at] = 0;
    const bytes = itemOf(await compareRamdisks(file('rootfs/t', x), file('rootfs/t', y)), 'rootfs/t').context;
    expect(bytes).toMatchObject({ offset: 2_000_003, differing: 2 });
    expect(bytes?.hex[1]).toMatchObject({
      offset: 2_000_000,
      a: '07'.repeat(16),
      b: `070707 00${'07'.repeat(12)}`.replace(' ', ''),
    });
  });
});

test('an entry gone, one come, one under another name, one of another type, another target', async () => {
  const [a, b] = [customer(), customer()];
  a.splice(
    2,
    0,
    { path: 'rootfs/etc/old', content: 'old' },
    { path: 'rootfs/etc/x', mode: FILE, content: 'moved content' },
  );
  b.splice(2, 0, { path: 'rootfs/etc/y', content: 'moved content' });
  for (const entry of b) {
    if (entry.path === 'rootfs/sh') entry.content = 'bin/dash';
    if (entry.path === 'env') Object.assign(entry, { mode: LINK, content: 'cmd' });
  }
  const report = await compareRamdisks(a, b);
  const what = (path: string) => itemOf(report, path).changes.map((change) => change.what);
  expect(what('rootfs/etc/old')).toEqual(['removed']);
  expect(itemOf(report, 'rootfs/etc/x').changes).toEqual([{ what: 'renamed', a: 'rootfs/etc/x', b: 'rootfs/etc/y' }]);
  expect(itemOf(report, 'rootfs/sh').changes).toEqual([{ what: 'target', a: 'bin/busybox', b: 'bin/dash' }]);
  expect(what('env')).toContain('type');
});

test('metadata is not measured: the same measurement, and what differs is told', async () => {
  const metadata = (time: string) => JSON.stringify({ ImageName: 'x', BuildMetadata: { BuildTime: time } });
  const report = await compare(
    { metadata: metadata('2026-01-01T00:00:00+00:00') },
    { metadata: metadata('2026-01-02T00:00:00+00:00') },
  );
  expect(report.verdict).toBe('same-measurement');
  expect(partOf(report, 'metadata')).toMatchObject({ registers: [], status: 'different', causes: [{ id: 'clock' }] });
});

test('padding between entries is no entry: told as how it is written, with its bytes', async () => {
  const [a, b] = [newc(customer()), newc(customer())];
  b[b.length - 1] = 0;
  const longer = Buffer.concat([b, Buffer.alloc(512)]);
  const report = await compareRamdisks(a, longer);
  expect(partOf(report)).toMatchObject({ items: [], changes: [{ what: 'framing' }], causes: [{ id: 'cpio-writer' }] });
  expect(partOf(report).context?.offset).toBe(a.length);
});

test('the first twenty of a part are told, the others counted; all on request', async () => {
  const many = (mtime: number) =>
    Array.from({ length: 100 }, (_, i) => ({
      path: `f${String(i).padStart(3, '0')}`,
      mtime,
      content: i === 99 ? `${mtime}` : 'x',
    }));
  const report = await compareRamdisks(many(TIME), many(TIME + 1));
  const part = partOf(report);
  expect(part.items).toHaveLength(20);
  // What matters more comes first.
  expect(part.items[0]?.path).toBe('f099');
  expect(part).toMatchObject({
    omitted: 80,
    groups: [
      { count: 99, what: 'time' },
      { count: 1, what: 'content, time' },
    ],
  });
  expect(partOf(await compareRamdisks(many(TIME), many(TIME + 1), Number.POSITIVE_INFINITY)).items).toHaveLength(100);
});

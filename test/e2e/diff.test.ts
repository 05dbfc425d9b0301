import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { atomaTee, ok, scratch } from './cli.ts';

/** `diff` as a user types it, on images whose ramdisks Debian's cpio wrote. */
const { dir, remove } = scratch();
const at = (name: string) => join(dir, name);
const HOSTILE = 'etc/\u001b[31m<script>alert(1)<';

/** A ramdisk of a directory whose files have this time, by GNU cpio. */
function ramdisk(name: string, time: number, motd: string): void {
  const root = at(`${name}.root`);
  const paths = ['.', 'etc', 'etc/motd', 'init', HOSTILE];
  mkdirSync(join(root, 'etc'), { recursive: true });
  writeFileSync(join(root, 'etc/motd'), motd);
  writeFileSync(join(root, 'init'), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(join(root, HOSTILE), 'x');
  for (const path of paths.toReversed()) utimesSync(join(root, path), time, time);
  const args = ['--create', '--format=newc', '--reproducible', '--quiet'];
  const cpio = spawnSync('cpio', args, { cwd: root, input: `${paths.join('\n')}\n`, maxBuffer: 1 << 24 });
  expect(cpio.status, cpio.stderr.toString()).toBe(0);
  writeFileSync(at(`${name}.cpio`), cpio.stdout);
}

beforeAll(() => {
  writeFileSync(at('kernel'), 'a kernel');
  const pack = (name: string, ramdisk: string) => {
    const parts = ['--kernel', at('kernel'), '--cmdline', 'quiet', '--ramdisk', at('a.cpio'), '--ramdisk', at(ramdisk)];
    ok(atomaTee(['nitro', 'pack', ...parts, '--out', at(name)]));
  };
  ramdisk('a', 1_700_000_000, 'hello\nworld\n');
  ramdisk('b', 1_800_000_000, 'hello\nworld\n');
  ramdisk('c', 1_700_000_000, 'hello\nthere\n');
  for (const name of ['a', 'b', 'c']) pack(`${name}.eif`, `${name}.cpio`);
});
afterAll(remove);

test('equal images: exit 0, and it says so', () => {
  const result = ok(atomaTee(['diff', at('a.eif'), at('a.eif')]));
  expect(result.stdout).toContain('EQUAL');
  expect(ok(atomaTee(['diff', at('a.eif'), at('a.eif'), '--json'])).json.verdict).toBe('equal');
});

test('two ramdisks that differ only in times: exit 3, PCR2, the clock', () => {
  const result = atomaTee(['diff', at('a.eif'), at('b.eif')]);
  expect(result.code).toBe(3);
  expect(result.stdout).toMatch(/≠ PCR2 {2}different, because of ramdisk1/);
  expect(result.stdout).toContain('etc/motd  time: 2023-11-14T22:13:20Z -> 2027-01-15T08:00:00Z');
  const { json, code } = atomaTee(['diff', at('a.eif'), at('b.eif'), '--json']);
  expect(code).toBe(3);
  expect(new Set(json.causes.map(({ id }: { id: string }) => id))).toEqual(new Set(['clock']));
});

test('a changed file: its lines on the terminal and in the page; a hostile name is text in both', () => {
  const args = ['diff', at('a.eif'), at('c.eif'), '--html', at('why.html')];
  const result = atomaTee(args, { env: { FORCE_COLOR: '1' } });
  expect(result.code).toBe(3);
  expect(result.stdout).toContain('- world');
  expect(result.stdout).toContain('\u001b[');
  const plain = atomaTee([...args, '--no-color'], { env: { FORCE_COLOR: '1' } });
  expect(plain.stdout).not.toContain('\u001b');
  const page = readFileSync(at('why.html'), 'utf8');
  expect(page).toContain('<span class="gone">world</span>');
  const all = atomaTee(['diff', at('a.eif'), at('b.eif'), '--all', '--html', at('all.html')]);
  expect(all.stdout).toContain('<script>alert(1)<');
  expect(all.stdout).not.toContain('\u001b');
  expect(readFileSync(at('all.html'), 'utf8')).not.toContain('<script');
});

test('what nitro-cli prints of a debug enclave: exit 3, called debug', () => {
  const zero = '0'.repeat(96);
  writeFileSync(at('pcrs.json'), JSON.stringify({ Measurements: { PCR0: zero, PCR1: zero, PCR2: zero } }));
  const result = atomaTee(['diff', at('a.eif'), at('pcrs.json')]);
  expect(result.code).toBe(3);
  expect(result.stdout).toMatch(/DEBUG {2}a debug enclave has no measurement/);
});

test('a truncated image: exit 2, and no page is left', () => {
  writeFileSync(at('short.eif'), readFileSync(at('a.eif')).subarray(0, 2000));
  const result = atomaTee(['diff', at('a.eif'), at('short.eif'), '--html', at('none.html'), '--json']);
  expect(result).toMatchObject({ code: 2, json: { error: { code: 'ERR_EIF_TRUNCATED' } } });
  expect(() => readFileSync(at('none.html'))).toThrow(/ENOENT/);
});

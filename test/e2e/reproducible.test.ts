/** Reproducible means byte-identical: another umask, locale, time zone, clock, user and directory. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { atomaTee, digits, giveAway, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
afterAll(remove);

const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const digests = (path: string) =>
  Object.fromEntries(
    readdirSync(path)
      .sort()
      .map((name) => [name, digest(join(path, name))]),
  );

const haveFaketime = spawnSync('faketime', ['--version']).status === 0;

test.skipIf(!haveFaketime)(
  'two builds of the example are byte-identical, whoever makes them, wherever, whenever (skipped without faketime)',
  () => {
    ok(atomaTee(['build', digits, '--out', join(dir, 'a')], { env: { TZ: 'UTC', LC_ALL: 'C' } }));

    // Another project directory, owned by another user, with other modes and times on every file.
    const elsewhere = join(dir, 'ünder', 'a much longer path', 'project');
    cpSync(digits, elsewhere, { recursive: true });
    const out = join(dir, 'out');
    const cache = join(dir, 'cache');
    for (const path of [out, cache]) mkdirSync(path);
    cpSync(join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'atoma-tee'), join(cache, 'atoma-tee'), {
      recursive: true,
    });
    for (const path of tree(elsewhere).filter((name) => name.endsWith('.onnx'))) chmodSync(path, 0o600);

    giveAway(dir);

    const env = {
      TZ: 'Pacific/Kiritimati',
      LC_ALL: 'tr_TR.UTF-8',
      LANG: 'tr_TR.UTF-8',
      HOME: out,
      XDG_CACHE_HOME: cache,
      XDG_CONFIG_HOME: join(out, 'config'),
      UV_THREADPOOL_SIZE: '1',
      // Timers must go on: only the time of day is a lie.
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
    const via = ['sh', '-c', 'umask 077; exec "$@"', 'sh', 'faketime', '2031-05-05 05:05:05'];
    ok(atomaTee(['build', elsewhere, '--out', join(out, 'b'), '--offline'], { env, via, ordinaryUser: true }));

    expect(digests(join(out, 'b'))).toEqual(digests(join(dir, 'a')));
    expect(Object.keys(digests(join(dir, 'a')))).toEqual([
      'bom.cdx.json',
      'build.intoto.json',
      'digits.eif',
      'measurements.json',
    ]);
  },
);

function tree(path: string): string[] {
  return readdirSync(path, { withFileTypes: true, recursive: true }).map((entry) => join(entry.parentPath, entry.name));
}

import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { isHostRoot, UNPRIVILEGED } from '../../../src/launch/namespaces.ts';
import { createRuntimeDirectory } from '../../../src/launch/runtime-directory.ts';

const ours = () => readdirSync(tmpdir()).filter((name) => name.startsWith('atoma-tee-launch.'));

test('what a killed launcher left is removed by the next one, what a live one uses is not', () => {
  const live = createRuntimeDirectory();
  const dead = `atoma-tee-launch.${process.pid}.1.abcdef`;
  mkdirSync(join(tmpdir(), dead, 'sockets'), { recursive: true });
  const next = createRuntimeDirectory();
  expect(ours()).toEqual(expect.arrayContaining([live, next].map(({ path }) => path.slice(tmpdir().length + 1))));
  expect(ours()).not.toContain(dead);
  live.remove();
  next.remove();
});

test('nobody else can look into it', () => {
  const directory = createRuntimeDirectory();
  expect(statSync(directory.path).mode & 0o777).toBe(0o711);
  expect(statSync(directory.sockets).mode & 0o777).toBe(0o700);
  directory.remove();
});

test.runIf(isHostRoot())(
  'made by root for another user: that one can reach the socket but plant nothing beside it',
  () => {
    const umask = process.umask(0o077);
    try {
      const directory = createRuntimeDirectory(UNPRIVILEGED);
      expect(statSync(directory.path).mode & 0o777).toBe(0o711);
      expect(statSync(directory.root).uid).toBe(UNPRIVILEGED);
      const { uid, gid, mode } = statSync(directory.sockets);
      expect([uid, gid, mode & 0o777]).toEqual([0, UNPRIVILEGED, 0o710]);
      directory.remove();
    } finally {
      process.umask(umask);
    }
  },
);

test.runIf(isHostRoot())('a TMPDIR in which another user can rename what root makes is not used', () => {
  const hostile = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
  mkdirSync(join(hostile, 'inner'));
  const before = process.env.TMPDIR;
  try {
    for (const [owner, mode] of [
      [12345, 0o755],
      [0, 0o777],
    ] as const) {
      chownSync(hostile, owner, owner);
      chmodSync(hostile, mode);
      process.env.TMPDIR = join(hostile, 'inner');
      const directory = createRuntimeDirectory(UNPRIVILEGED);
      directory.remove();
      expect(dirname(directory.path)).toBe('/tmp');
    }
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    rmSync(hostile, { recursive: true });
  }
});

import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
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

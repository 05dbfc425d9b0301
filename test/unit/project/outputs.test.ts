import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { stagingFor } from '../../../src/core/staging.ts';
import { type Output, publish } from '../../../src/project/outputs.ts';
import { temporaryDirectory } from '../image/fixtures.ts';

const OUTPUTS: Output[] = [
  { name: 'a' },
  { name: 'd', directory: ['x', 'y'] },
  { name: 'e', directory: ['x'] },
  { name: 'z' },
];

/** A directory of older outputs, and staged new ones. */
async function staged(names = ['a', 'd', 'e', 'z']) {
  const out = join(temporaryDirectory(), 'out');
  write(out, 'old', ['a', 'd', 'e', 'z']);
  const staging = await stagingFor(out);
  write(staging.path, 'new', names);
  return { out, staging };
}

function write(base: string, text: string, names: string[]): void {
  for (const name of names) {
    const directory = OUTPUTS.find((output) => output.name === name)?.directory !== undefined;
    mkdirSync(directory ? join(base, name) : base, { recursive: true });
    writeFileSync(directory ? join(base, name, 'x') : join(base, name), text);
  }
}

const read = (out: string) => ['a', 'd/x', 'e/x', 'z'].map((path) => readFileSync(join(out, path), 'utf8')).join(' ');

test('files and directories take the place of older ones; what is not theirs stays', async () => {
  const { out, staging } = await staged();
  writeFileSync(join(out, 'mine'), 'mine');
  writeFileSync(join(out, 'd/y'), 'old');
  await publish(staging, out, OUTPUTS);
  await staging.remove();
  expect(read(out)).toBe('new new new new');
  expect(readdirSync(out).sort()).toEqual(['a', 'd', 'e', 'mine', 'z']);
  expect(readdirSync(join(out, 'd'))).toEqual(['x']);
});

test('one that cannot take its place: those before it give theirs back, directories too', async () => {
  for (const lacking of ['a', 'd', 'e', 'z']) {
    const { out, staging } = await staged(['a', 'd', 'e', 'z'].filter((name) => name !== lacking));
    await expect(publish(staging, out, OUTPUTS)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    await staging.remove();
    expect(read(out)).toBe('old old old old');
    expect(readdirSync(out).sort()).toEqual(['a', 'd', 'e', 'z']);
  }
});

test('one that was not there before is gone again when a later one fails', async () => {
  const { out, staging } = await staged(['a', 'd', 'e']);
  for (const name of ['a', 'd']) rmSync(join(out, name), { recursive: true });
  await expect(publish(staging, out, OUTPUTS)).rejects.toThrow();
  expect([existsSync(join(out, 'a')), existsSync(join(out, 'd'))]).toEqual([false, false]);
});

test('links to files and directories are replaced themselves', async () => {
  const { out, staging } = await staged();
  const victim = temporaryDirectory();
  for (const name of ['a', 'd']) rmSync(join(out, name), { recursive: true });
  writeFileSync(join(victim, 'x'), 'precious');
  symlinkSync(join(victim, 'x'), join(out, 'a'));
  symlinkSync(victim, join(out, 'd'));
  await publish(staging, out, OUTPUTS);
  await staging.remove();
  expect(read(out)).toBe('new new new new');
  expect(readFileSync(join(victim, 'x'), 'utf8')).toBe('precious');
  expect(readdirSync(victim)).toEqual(['x']);
});

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { AtomicFile, readSmallFile, withAtomicFile, writeFileAtomic } from '../../../src/core/files.ts';
import { stagingDirectory } from '../../../src/core/staging.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-files-'));
const at = (name: string) => join(dir, name);
afterEach(() => {
  for (const name of readdirSync(dir)) rmSync(at(name), { recursive: true });
});

describe('a file that appears whole or not at all', () => {
  test('is private while it is written', async () => {
    await withAtomicFile(at('f'), async () => expect(statSync(at('f.partial')).mode & 0o777).toBe(0o600));
    expect(statSync(at('f')).mode & 0o777).toBe(0o644);
  });

  test('a failure leaves the old one', async () => {
    writeFileSync(at('f'), 'old');
    await expect(withAtomicFile(at('f'), () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(readFileSync(at('f'), 'utf8')).toBe('old');
    expect(readdirSync(dir)).toEqual(['f']);
  });

  test('what a killed run left is replaced', async () => {
    writeFileSync(at('f.partial'), 'left by a killed run');
    await writeFileAtomic(at('f'), 'new');
    expect(readdirSync(dir)).toEqual(['f']);
  });

  test('a link planted at the partial name is not written through', async () => {
    writeFileSync(at('victim'), 'mine');
    symlinkSync(at('victim'), at('f.partial'));
    await writeFileAtomic(at('f'), 'new');
    expect(readFileSync(at('victim'), 'utf8')).toBe('mine');
  });

  test('two runs with the same output: the later one wins, and nothing of it is published by the earlier', async () => {
    const first = await AtomicFile.create(at('f'));
    const second = await AtomicFile.create(at('f'));
    await second.handle.write('half');
    await expect(first.commit()).rejects.toMatchObject({ code: 'ERR_OUTPUT_BUSY' });
    expect(existsSync(at('f'))).toBe(false);
    await second.handle.write(' and half');
    await second.commit();
    expect(readFileSync(at('f'), 'utf8')).toBe('half and half');
  });

  test('two runs with the same output: the earlier says so, whatever it stumbles over in what is not its file', async () => {
    const outcome = withAtomicFile(at('f'), async () => {
      await AtomicFile.create(at('f'));
      throw new Error('not an image');
    });
    await expect(outcome).rejects.toMatchObject({ code: 'ERR_OUTPUT_BUSY' });
    expect(readdirSync(dir)).toEqual(['f.partial']);
  });

  test('a pipe or a device in its place is not replaced, directly or through a link', async () => {
    mkfifo(at('pipe'));
    symlinkSync(at('pipe'), at('link'));
    for (const name of ['pipe', 'link'])
      await expect(writeFileAtomic(at(name), 'x')).rejects.toMatchObject({ code: 'ERR_OUTPUT_KIND', exitCode: 2 });
    expect(statSync(at('pipe')).isFIFO()).toBe(true);
    expect(readdirSync(dir).sort()).toEqual(['link', 'pipe']);
  });

  test('a directory that takes its place at the last moment leaves no partial file', async () => {
    mkdirSync(at('d'));
    await expect(writeFileAtomic(at('d'), 'x')).rejects.toMatchObject({ code: 'ERR_OUTPUT_KIND', exitCode: 2 });
    const late = withAtomicFile(at('f'), async () => mkdirSync(at('f')));
    await expect(late).rejects.toMatchObject({ code: 'ERR_FILE_KIND' });
    expect(readdirSync(dir).sort()).toEqual(['d', 'f']);
  });
});

const mkfifo = (path: string) => execFileSync('mkfifo', [path]);

describe('staging beside an output', () => {
  test('is removed when a run with the same output finds that its maker is dead', async () => {
    const left = await stagingDirectory(at('out'));
    const dead = left.path.replace(`.${process.pid}-`, '.4194304-');
    rmSync(left.path, { recursive: true });
    mkdirSync(dead);
    const mine = await stagingDirectory(at('out'), 0o700);
    expect(existsSync(dead)).toBe(false);
    expect(statSync(mine.path).mode & 0o777).toBe(0o700);
    await mine.remove();
    expect(existsSync(mine.path)).toBe(false);
  });
});

describe('reading a small file', () => {
  test.each([
    ['missing', () => {}, 'ERR_FILE_NOT_FOUND'],
    ['a directory', (path: string) => symlinkSync('/', path), 'ERR_FILE_KIND'],
    ['oversized', (path: string) => writeFileSync(path, Buffer.alloc(11)), 'ERR_FILE_TOO_LARGE'],
    ['a device', (path: string) => symlinkSync('/dev/zero', path), 'ERR_FILE_KIND'],
    ['a pipe that nobody writes to, in the place of a file', (path: string) => mkfifo(path), 'ERR_FILE_KIND'],
  ])('%s', async (_, make, code) => {
    make(at('f'));
    await expect(readSmallFile(at('f'), 'thing', 10)).rejects.toMatchObject({ code });
  });

  test('an endless device is not read to its end', async () => {
    await expect(readSmallFile('/dev/zero', 'thing', 10)).rejects.toMatchObject({ code: 'ERR_FILE_TOO_LARGE' });
  });

  test("what a shell's <(command) gives is read", () => {
    const program = `import('${new URL('../../../src/core/files.ts', import.meta.url)}').then(async ({ readSmallFile }) =>
      process.stdout.write(await readSmallFile(process.argv[1], 'thing')))`;
    const command = '"$0" -e "$1" <(sleep 0.1; echo late)';
    expect(execFileSync('bash', ['-c', command, process.execPath, program], { encoding: 'utf8' })).toBe('late\n');
  });
});

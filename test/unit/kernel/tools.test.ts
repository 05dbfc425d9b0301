import { mkdirSync, symlinkSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { execaSync } from 'execa';
import { expect, test } from 'vitest';
import { findTools, toolEnvironment } from '../../../src/kernel/tools.ts';
import { temporaryDirectory } from '../image/fixtures.ts';

const PROGRAMS = ['gcc', 'ld', 'make', 'flex', 'bison', 'bc', 'gzip', 'xz'];

/** A PATH on which only these programs are. */
function pathWith(programs: string[]): string {
  const dir = join(temporaryDirectory(), 'bin');
  mkdirSync(dir);
  for (const name of programs) {
    const { stdout } = execaSync('sh', ['-c', `command -v ${name}`], { reject: false });
    if (stdout) symlinkSync(stdout, join(dir, name));
  }
  return dir;
}

const x64 = process.arch === 'x64';

test.runIf(x64)('a machine without a compiler is told every package to install', async () => {
  const error = await findTools({ PATH: pathWith([]) }).catch((e) => e);
  expect(error).toMatchObject({ code: 'ERR_KERNEL_TOOLS', exitCode: 5 });
  expect(error.hint).toContain('apt-get install bc binutils bison flex gcc gzip libc6-dev libelf-dev make xz-utils');
});

test.runIf(x64)('one program that is missing is named alone', async () => {
  const all = await findTools().then(
    () => true,
    () => false,
  );
  if (!all) return expect(findTools()).rejects.toMatchObject({ code: 'ERR_KERNEL_TOOLS', exitCode: 5 });
  const error = await findTools({ PATH: pathWith(PROGRAMS.filter((name) => name !== 'flex')) }).catch((e) => e);
  // gcc finds its assembler by itself; the headers are looked for with it.
  expect(error.details).toEqual({ packages: ['flex'] });
});

test('tools see no environment but an absolute PATH: nothing of ours, and nothing in the source runs', () => {
  const env = toolEnvironment({
    PATH: ['.', 'bin', '', '/usr/bin', '/bin'].join(delimiter),
    KCFLAGS: '-O0',
    HOME: '/root',
  });
  expect(env).toEqual({ PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' });
});

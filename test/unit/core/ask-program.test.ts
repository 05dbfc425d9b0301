import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { askProgram } from '../../../src/core/ask-program.ts';
import { root } from '../../ordinary-user.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const script = (name: string, text: string): string => {
  const path = join(dir, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
};
const limits = { env: process.env, timeout: 20_000 };

describe('a program is asked', () => {
  test('what it answers, with what it is told', async () => {
    expect(await askProgram(script('cat', 'cat; echo "$1"'), ['b'], { ...limits, input: 'a\n' })).toBe('a\nb\n');
  });

  test('none, one that fails, one that answers without end', async () => {
    expect(await askProgram(join(dir, 'none'), [], limits)).toBeNull();
    expect(await askProgram(script('fails', 'echo x; exit 1'), [], limits)).toBeNull();
    expect(await askProgram(script('endless', 'exec cat /dev/zero'), [], limits)).toBeNull();
    // It reads nothing of a long question.
    expect(await askProgram(script('deaf', 'exit 0'), [], { ...limits, input: 'x'.repeat(1 << 20) })).toBe('');
  });

  test('attack: a wrapper that hangs, and whose child keeps the pipe: this process ends all the same', () => {
    const hanging = script('wrapper', `sleep 60 & echo $! > ${join(dir, 'pid')}; wait`);
    const code = `import { askProgram } from ${JSON.stringify(join(root, 'src/core/ask-program.ts'))};
      console.log(await askProgram(${JSON.stringify(hanging)}, [], { env: process.env, timeout: 300 }));`;
    const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      timeout: 30_000,
      encoding: 'utf8',
    });
    spawnSync('sh', ['-c', `kill "$(cat ${join(dir, 'pid')})"`]);
    expect({ stdout, signal }).toEqual({ stdout: 'null\n', signal: null });
  });
});

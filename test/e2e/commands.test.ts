import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { atomaTee, root } from './cli.ts';

const manifest = JSON.parse(readFileSync(join(root, 'oclif.manifest.json'), 'utf8'));
const commands = Object.keys(manifest.commands);

describe('the contract of every command', () => {
  test('there are commands, under the names of the contract', () => {
    expect(commands.map((id) => id.replaceAll(':', ' ')).sort()).toEqual(
      [
        'broker advance',
        'broker serve',
        'build',
        'doctor',
        'diff',
        'endorsements import',
        'gramine manifest',
        'gramine sign',
        'init',
        'inspect',
        'keygen',
        'lock',
        'model sign',
        'model verify',
        'nitro kernel',
        'nitro pack',
        'nitro sign',
        'nitro unpack',
        'rebind',
        'pull',
        'push',
        'run',
        'seal',
        'unseal',
        'verify',
      ].sort(),
    );
  });

  test.each(commands)('%s has a summary, at least one example, and --json', (id) => {
    const command = manifest.commands[id];
    expect(command.summary).toBeTruthy();
    expect(command.examples.length).toBeGreaterThan(0);
    expect(command.enableJsonFlag).toBe(true);
  });

  test.each(commands)('%s --help exits 0 and shows its examples', (id) => {
    const help = atomaTee([...id.split(':'), '--help']);
    expect(help.code).toBe(0);
    expect(help.stdout).toContain('EXAMPLES');
  });
});

test('a user whom the password file does not know, and no SHELL (docker run --user)', () => {
  const via = ['env', '-u', 'SHELL', 'unshare', '--user', '--map-user=12345', '--map-group=12345'];
  expect(atomaTee(['build', '--help'], { via })).toMatchObject({ code: 0, stderr: '' });
});

describe('usage errors', () => {
  test('an unknown command: exit 2, and the nearest one', () => {
    const result = atomaTee(['biuld']);
    expect(result.code).toBe(2);
    expect(result.stderr).toContain('ERR_USAGE');
    expect(result.stderr).toContain('build');
    expect(result.stdout).toBe('');
  });

  test('an unknown flag: exit 2', () => {
    const result = atomaTee(['build', '--fast']);
    expect(result.code).toBe(2);
    expect(result.stderr).toContain('--fast');
  });

  test('with --json, the error is the one document on stdout', () => {
    const result = atomaTee(['keygen', '--json']);
    expect(result.code).toBe(2);
    expect(result.json.error.code).toBe('ERR_USAGE');
    expect(result.json.error.message).toContain('type');
  });

  test('no stack trace unless DEBUG is set', () => {
    const args = ['inspect', '/nonexistent'];
    expect(atomaTee(args).stderr).not.toMatch(/^\s+at /m);
    expect(atomaTee(args, { env: { DEBUG: '1' } }).stderr).toMatch(/^\s+at /m);
  });

  test('NO_COLOR and a pipe both mean no escape sequences', () => {
    const result = atomaTee(['inspect', '/nonexistent'], { env: { NO_COLOR: '1' } });
    expect(result.stderr).not.toContain('\u001b');
  });

  test('--no-color wins over a terminal that can', () => {
    const args = ['verify', join(root, 'package.json'), '--kind', 'eif', '--expect', 'none'];
    const coloured = atomaTee(args, { env: { FORCE_COLOR: '1' } }).stdout;
    expect(coloured).toContain('\u001b[');
    expect(atomaTee([...args, '--no-color'], { env: { FORCE_COLOR: '1' } }).stdout).not.toContain('\u001b[');
  });

  test('--version', () => {
    const result = atomaTee(['--version']);
    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(/^atoma-tee\/\d+\.\d+\.\d+ .*node-v2[4-9]/);
  });
});

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, cpSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { atomaTee, digits, ok, root, scratch } from './cli.ts';
import { haveTmux, Terminal } from './terminal.ts';

const { dir, remove } = scratch();
const at = (...path: string[]) => join(dir, ...path);
const PATH = `${join(root, 'bin')}:${process.env.PATH}`;
/** The shared cache, and a simulated root of this test's own. */
const env = { XDG_CONFIG_HOME: at('config'), PATH };

beforeAll(() => {
  mkdirSync(at('work'));
  cpSync(join(digits, 'model/digits.onnx'), at('work/digits.onnx'));
});
afterAll(remove);

describe('from a model to an answer', () => {
  test('exactly the commands of the README that init wrote, in a shell', () => {
    const made = ok(
      atomaTee(['init', 'project', '--model', 'digits.onnx', '--yes', '--json'], { cwd: at('work'), env }),
    );
    expect(made.json).toMatchObject({ name: 'project', targets: ['nitro'], lock: 'atoma-tee.lock', notes: [] });
    const readme = readFileSync(at('work/project/README.md'), 'utf8');
    const script = /```\n([\s\S]*?)```/.exec(readme)?.[1] ?? '';
    expect(script.match(/^atoma-tee (\w+)/gm)).toEqual([
      ...['atoma-tee build', 'atoma-tee seal', 'atoma-tee run', 'atoma-tee verify'],
    ]);
    const shell = spawnSync('sh', ['-euc', script], {
      cwd: at('work/project'),
      env: { ...process.env, ...env, NO_COLOR: '1' },
      encoding: 'utf8',
    });
    if (shell.status !== 0) throw new Error(`${shell.stdout}\n${shell.stderr}`);
    expect(shell.stdout).toMatch(/^PASS {2}SIMULATED/m);
    const response = JSON.parse(readFileSync(at('work/project/response.json'), 'utf8'));
    expect(response.outputs.map((output: { name: string }) => output.name)).toContain('label');
    // What git would take has no secret.
    const git = (...args: string[]) => spawnSync('git', args, { cwd: at('work/project'), encoding: 'utf8' });
    git('init', '-q');
    const tracked = git('ls-files', '--others', '--exclude-standard').stdout.trim().split('\n');
    expect(tracked).toContain('keys/owner.key.pub');
    expect(tracked.filter((path) => /\.key$|\.sealed$|^dist\/|cbor$/.test(path))).toEqual([]);
  });

  test('twice in one place: exit 2, and the first project stays', () => {
    const before = readFileSync(at('work/project/enclave.toml'));
    const again = atomaTee(['init', 'project', '--model', 'digits.onnx', '--yes'], { cwd: at('work'), env });
    expect(again).toMatchObject({ code: 2, stdout: '' });
    expect(again.stderr).toContain('ERR_INIT_EXISTS');
    expect(readFileSync(at('work/project/enclave.toml'))).toEqual(before);
  });

  test('without a terminal nothing is asked: exit 2, and the flags are named', () => {
    const outcome = atomaTee(['init', 'silent', '--model', 'digits.onnx', '--json'], { cwd: at('work'), env });
    expect(outcome.code).toBe(2);
    expect(outcome.json.error).toMatchObject({
      code: 'ERR_INIT_ANSWER',
      details: { flags: ['--name', '--target', '--copy', '--owner'] },
    });
    expect(existsSync(at('work/silent'))).toBe(false);
  });
});

test('told to stop while it copies a model: it does at once, exit 1, and nothing is left', async () => {
  mkdirSync(at('large'));
  cpSync(join(digits, 'model/digits.onnx'), at('large/model.onnx'));
  closeSync(openSync(at('large/model.data'), 'w'));
  // All holes: it takes no room, and reading it takes long.
  truncateSync(at('large/model.data'), 2 ** 36);
  const args = ['init', at('stopped'), '--model', at('large'), '--copy', '--yes'];
  const child = spawn(join(root, 'bin/atoma-tee'), args, { stdio: 'ignore' });
  const ended = once(child, 'exit');
  while (child.exitCode === null && !existsSync(at('stopped/model/model.data'))) await sleep(5);
  child.kill('SIGTERM');
  expect(await ended).toEqual([1, null]);
  expect(existsSync(at('stopped'))).toBe(false);
});

describe.skipIf(!haveTmux)('at a real terminal (skipped without tmux)', () => {
  let terminal: Terminal | undefined;
  const open = (columns = 80) => {
    terminal = new Terminal({ cwd: at('work'), env: { ...env, HOME: dir }, columns });
    return terminal;
  };
  afterEach(() => terminal?.close());

  test('every question, a wrong answer, arrow keys and spaces', async () => {
    const it = open();
    const ended = it.run('atoma-tee init --copy made');
    await it.shows('? Model');
    expect(it.colours()).not.toEqual([]);
    it.keys('Up', 'Enter');
    await it.shows('Model, a file or a directory');
    it.type('no-such-file');
    it.keys('Enter');
    await it.shows('there is no model at no-such-file');
    it.keys('C-u');
    it.type('digits.onnx');
    it.keys('Enter');
    await it.shows('ONNX, 9 611 parameters; takes image FLOAT [batch, 64]');
    await it.shows('? Name of the project (made)');
    it.type('Not A Name');
    it.keys('Enter');
    await it.shows('lower-case letters');
    it.keys('C-u');
    it.type('ziffern');
    it.keys('Enter');
    await it.shows('? Build for');
    it.keys('Enter');
    await it.shows("? Owner's public key");
    it.keys('Enter');
    const { code, screen } = await ended();
    expect(code).toBe(0);
    expect(screen).toContain('made the project ziffern');
    expect(readFileSync(at('work/made/enclave.toml'), 'utf8')).toContain('name = "ziffern"');
    expect(readdirSync(at('work/made')).sort()).toEqual([
      ...['.gitignore', 'README.md', 'atoma-tee.lock', 'enclave.toml', 'keys', 'model', 'request.json'],
    ]);
  });

  test.each(['C-c', 'C-d'])('%s at a question: exit 1, nothing left, the shell as it was', async (key) => {
    const it = open();
    const ended = it.run('atoma-tee init gone --model digits.onnx');
    await it.shows('? Name of the project');
    it.keys('Enter');
    await it.shows('? Build for');
    it.keys(key);
    const { code, screen } = await ended();
    expect(code).toBe(1);
    expect(screen).toContain('ERR_INTERRUPTED');
    expect(existsSync(at('work/gone'))).toBe(false);
    // Typed text is seen again, and so is the cursor.
    expect((await it.run('stty -a | tr " ;" "\\n\\n" | grep -cx -e echo -e icanon')()).screen).toMatch(/^2$/m);
  });

  test('--no-color: no colour in questions either; --json: questions on stderr', async () => {
    const it = open();
    const ended = it.run('atoma-tee init plain --model digits.onnx --no-color --json > answer.json');
    await it.shows('? Name of the project');
    it.keys('Enter');
    await it.shows('? Build for');
    expect(it.colours()).toEqual([]);
    it.keys('Enter');
    await it.shows('? Copy the model');
    it.keys('Enter');
    await it.shows("? Owner's public key");
    it.keys('Enter');
    expect((await ended()).code).toBe(0);
    expect(JSON.parse(readFileSync(at('work/answer.json'), 'utf8'))).toMatchObject({
      name: 'plain',
      lock: 'atoma-tee.lock',
    });
  });
});

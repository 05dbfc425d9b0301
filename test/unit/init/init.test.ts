import {
  cpSync,
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
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AtomaError } from '../../../src/core/errors.ts';
import { readOwnerPrivateKey, readXWingPrivateKey } from '../../../src/keys/keys.ts';
import { loadProject } from '../../../src/project/load.ts';
import type { Asker } from '../../../src/tasks/init/ask.ts';
import { type InitOptions, initProject } from '../../../src/tasks/init/index.ts';
import { enclaveSize, memoryMib } from '../../../src/tasks/init/texts.ts';
import { root } from '../../ordinary-user.ts';
import { gguf, twoTensors } from './weights.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
const at = (...path: string[]) => join(dir, ...path);
const digits = at('weights/digits.onnx');
const programPath = at('program.mjs');
const cache = process.env.XDG_CACHE_HOME;

beforeAll(() => {
  process.env.XDG_CACHE_HOME = at('cache');
  writeFileSync(programPath, '// a program');
  mkdirSync(at('weights'));
  cpSync(join(root, 'examples/digits/model/digits.onnx'), digits);
  writeFileSync(at('m.gguf'), gguf());
});
afterAll(() => {
  if (cache === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = cache;
  rmSync(dir, { recursive: true, force: true });
});

const init = (name: string, more: Partial<InitOptions> = {}) =>
  initProject({ dir: at(name), model: digits, yes: true, programPath, ...more });
const read = (...path: string[]) => readFileSync(at(...path), 'utf8');
/** Every file and directory below, with its content. */
const tree = (path: string): string[] =>
  readdirSync(path, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) =>
      statSync(join(path, name)).isFile() ? `${name} ${readFileSync(join(path, name), 'base64')}` : name,
    );

describe('a project from an ONNX model', () => {
  test('it loads, its keys are what they are for, and nobody else reads them', async () => {
    const result = await init('digits');
    const project = await loadProject(at('digits'));
    expect(project).toMatchObject({ name: 'digits', version: '1.0.0', model: { path: digits } });
    expect(project.config).toMatchObject({
      targets: ['nitro'],
      runtime: { kind: 'onnx' },
      nitro: { memory_mib: 1024 },
    });
    const owner = readOwnerPrivateKey(Buffer.from(read('digits/keys/owner.key')));
    expect(owner.publicRaw).toEqual(project.model.owner);
    for (const key of ['broker', 'recovery']) readXWingPrivateKey(Buffer.from(read(`digits/keys/${key}.key`)));
    for (const key of ['owner', 'broker', 'recovery']) {
      expect(statSync(at(`digits/keys/${key}.key`)).mode & 0o777).toBe(0o600);
    }
    expect(statSync(at('digits/keys')).mode & 0o777).toBe(0o700);
    expect(read('digits/keys/.gitignore')).toBe('*\n!.gitignore\n!*.pub\n');
    expect(result).toMatchObject({ lock: 'atoma-tee.lock', kept: [], notes: [], model: { copied: false } });
    for (const file of result.files) expect(existsSync(at('digits', file))).toBe(true);
    for (const command of result.commands) expect(read('digits/README.md')).toContain(`\n${command}\n`);
  });

  test('every flag', async () => {
    mkdirSync(at('other'));
    const { files } = await init('every', {
      name: 'x-1',
      version: '2.0',
      targets: ['gramine', 'nitro'],
      copy: true,
      lock: false,
    });
    expect(files).toContain('keys/sgx.key');
    const project = await loadProject(at('every'));
    expect(project).toMatchObject({ name: 'x-1', version: '2.0', model: { path: at('every/model') } });
    expect(project.config).toMatchObject({
      targets: ['nitro', 'gramine'],
      gramine: { sign: { key: 'keys/sgx.key' }, enclave_size: '4G' },
    });
    expect(readFileSync(at('every/model/digits.onnx'))).toEqual(readFileSync(digits));
    expect(read('every/.gitignore')).toContain('\n/model/\n');
    expect(existsSync(at('every/atoma-tee.lock'))).toBe(false);
  });

  test('with an owner of one’s own there is no owner key here', async () => {
    const pub = at('digits/keys/owner.key.pub');
    const { commands } = await init('owned', { owner: pub, lock: false });
    expect(read('owned/keys/owner.key.pub')).toBe(readFileSync(pub, 'utf8'));
    expect(existsSync(at('owned/keys/owner.key'))).toBe(false);
    expect(commands.join('\n')).toContain('--sign OWNER.key');
    await expect(init('owned2', { owner: at('digits/keys/owner.key') })).rejects.toMatchObject({
      code: 'ERR_KEY_KIND',
    });
    expect(existsSync(at('owned2'))).toBe(false);
  });

  test('a link is followed where it is copied', async () => {
    symlinkSync(digits, at('link.onnx'));
    await init('linked', { model: at('link.onnx'), copy: true, lock: false });
    expect(readFileSync(at('linked/model/link.onnx'))).toEqual(readFileSync(digits));
  });

  test('names that a shell or TOML would read otherwise', async () => {
    const odd = at('it\'s "odd" $(x) #1');
    mkdirSync(odd);
    cpSync(digits, join(odd, 'a b.onnx'));
    const { commands } = await initProject({
      dir: odd,
      yes: true,
      programPath,
      model: join(odd, 'a b.onnx'),
      lock: false,
    });
    expect((await loadProject(odd)).model.path).toBe(join(odd, 'a b.onnx'));
    expect(commands[1]).toContain(`seal 'a b.onnx' `);
    expect(readFileSync(join(odd, '.gitignore'), 'utf8')).toContain('\n/a\\ b.onnx\n');
  });

  test('no Gramine to lock: a note with the way on, and a whole project', async () => {
    process.env.ATOMA_TEE_GRAMINE = at('nowhere');
    try {
      const { notes, lock } = await init('sgx', { targets: ['gramine'] });
      // Where the machine has a Gramine in /usr, it is found.
      if (lock === undefined) expect(notes.join()).toMatch(/ERR_GRAMINE_MISSING.*atoma-tee lock /);
      expect((await loadProject(at('sgx'))).config.targets).toEqual(['gramine']);
    } finally {
      delete process.env.ATOMA_TEE_GRAMINE;
    }
  });
});

describe('a project from weights that a program serves', () => {
  test('an image, whose path is put right', async () => {
    await initProject({
      ...{
        dir: at('chat'),
        model: at('m.gguf'),
        image: `docker-archive:${at('app.tar')}:app:1`,
        yes: true,
        lock: false,
      },
    });
    expect((await loadProject(at('chat'))).config).toMatchObject({
      runtime: { kind: 'command', port: 8080 },
      base: { image: 'docker-archive:../app.tar:app:1' },
    });
    expect(existsSync(at('chat/request.json'))).toBe(false);
  });

  test('a command', async () => {
    const command = ['/usr/bin/node', '/app/"x".js'];
    await initProject({ dir: at('cmd'), model: at('m.gguf'), command, port: 9000, yes: true, lock: false });
    expect((await loadProject(at('cmd'))).config.runtime).toMatchObject({ kind: 'command', command, port: 9000 });
  });

  test.each([
    ['no image', {}, 'ERR_INIT_ANSWER'],
    ['an image of no kind', { image: 'app.tar' }, 'ERR_OCI_REFERENCE'],
    ['for SGX', { image: 'dir:x', targets: ['gramine'] }, 'ERR_CONFIG_UNSUPPORTED'],
    ['as ONNX', { runtime: 'onnx' }, 'ERR_MODEL_NOT_ONNX'],
    ['another model', { model: at('nosuch') }, 'ERR_MODEL_NOT_FOUND'],
    ['a name that is none', { command: ['x'], name: 'A B' }, 'ERR_CONFIG_VALUE'],
    ['a command with a NUL', { command: ['x\0'] }, 'ERR_CONFIG_VALUE'],
  ] as [string, Partial<InitOptions>, string][])('refused, and nothing made: %s', async (_, more, code) => {
    await expect(initProject({ dir: at('no'), model: at('m.gguf'), yes: true, ...more })).rejects.toMatchObject({
      code,
      exitCode: 2,
    });
    expect(existsSync(at('no'))).toBe(false);
  });
});

describe('nothing that is there is touched', () => {
  test.each(['enclave.toml', 'atoma-tee.lock', 'keys/.gitignore', 'keys/owner.key', 'keys/broker.key.pub', 'model'])(
    'a directory with %s is refused and stays as it is',
    async (name) => {
      const project = at('taken', name.replace('/', '-'));
      mkdirSync(join(project, 'keys'), { recursive: true });
      writeFileSync(join(project, name), 'mine');
      const before = tree(project);
      await expect(
        initProject({ dir: project, model: digits, copy: true, yes: true, programPath }),
      ).rejects.toMatchObject({
        code: 'ERR_INIT_EXISTS',
        exitCode: 2,
      });
      expect(tree(project)).toEqual(before);
    },
  );

  test('a link planted for a key is not written through', async () => {
    mkdirSync(at('planted/keys'), { recursive: true });
    symlinkSync(at('elsewhere'), at('planted/keys/owner.key'));
    await expect(init('planted')).rejects.toMatchObject({ code: 'ERR_INIT_EXISTS' });
    expect(existsSync(at('elsewhere'))).toBe(false);
    expect(readdirSync(at('planted/keys'))).toEqual(['owner.key']);
  });

  test('README, .gitignore and request.json of somebody’s stay', async () => {
    mkdirSync(at('repo'));
    for (const name of ['README.md', '.gitignore', 'request.json']) writeFileSync(at('repo', name), 'mine');
    const { kept, files, notes } = await init('repo');
    expect(kept).toEqual(['.gitignore', 'request.json']);
    for (const name of ['README.md', ...kept]) expect(read('repo', name)).toBe('mine');
    expect(files).toContain('ENCLAVE.md');
    expect(notes.join()).toContain('.gitignore');
  });

  test('a model that holds the project would seal the keys with it', async () => {
    mkdirSync(at('inside'));
    cpSync(digits, at('inside/digits.onnx'));
    for (const project of ['inside', 'inside/project']) {
      await expect(init(project, { model: at('inside') })).rejects.toMatchObject({ code: 'ERR_INIT_MODEL' });
    }
    expect(readdirSync(at('inside'))).toEqual(['digits.onnx']);
  });
});

describe('questions', () => {
  const ask = (options: Partial<InitOptions>) =>
    initProject({ dir: at('asked'), programPath, lock: false, ...options });
  const failure = async (options: Partial<InitOptions>): Promise<AtomaError> => {
    const error = await ask(options).catch((thrown: unknown) => thrown);
    if (!(error instanceof AtomaError)) throw error;
    expect(existsSync(at('asked'))).toBe(false);
    return error;
  };

  test('without a terminal one error names every flag, and what --yes would take', async () => {
    const error = await failure({ model: digits });
    expect(error).toMatchObject({ code: 'ERR_INIT_ANSWER', exitCode: 2 });
    expect(error.message).toContain('--name, --target, --copy, --owner');
    expect(error.hint).toContain('--name asked --target nitro --no-copy --owner new');
    expect(await failure({})).toMatchObject({ code: 'ERR_INIT_ANSWER', details: { flags: ['--model'] } });
    expect(await failure({ yes: true })).toMatchObject({ code: 'ERR_INIT_ANSWER', details: { flags: ['--model'] } });
  });

  test('what the flags answer is not asked, and what is asked is used', async () => {
    const asked: string[] = [];
    const asker: Asker = {
      say: () => {},
      text: async ({ message, fallback, check }) => {
        asked.push(message);
        if (fallback === 'new') expect(await check(at('nosuch'))).toContain('no such file');
        const answer = fallback === 'new' ? 'new' : 'chosen';
        expect(await check(answer)).toBeNull();
        return answer;
      },
      one: () => Promise.reject(new Error('not asked')),
      some: async ({ message }) => {
        asked.push(message);
        return ['nitro'];
      },
      yesNo: async ({ message }) => {
        asked.push(message);
        return true;
      },
    };
    const result = await ask({ dir: at('chosen'), model: digits, targets: ['nitro'], asker });
    expect(result).toMatchObject({ name: 'chosen', targets: ['nitro'], model: { copied: true } });
    expect(asked).toHaveLength(3);
    await ask({ dir: at('asked-all'), model: digits, name: 'x', copy: false, owner: 'new', asker });
    expect(asked.slice(3)).toEqual(['Build for']);
    expect((await loadProject(at('asked-all'))).config.targets).toEqual(['nitro']);
  });

  test('a person who goes away in the middle leaves nothing', async () => {
    const gone = new AtomaError('unexpected', 'ERR_INTERRUPTED', 'stopped');
    const asker = { say: () => {}, text: async () => 'x', some: () => Promise.reject(gone) } as unknown as Asker;
    expect(await failure({ model: digits, asker })).toBe(gone);
  });
});

test('memory and address space grow with the model', () => {
  const gib = 2 ** 30;
  expect([0, 100 << 20, 4 * gib].map(memoryMib)).toEqual([1024, 1280, 9216]);
  expect([0, gib, 2 * gib, 30 * gib].map(enclaveSize)).toEqual(['4G', '4G', '8G', '64G']);
});

test('weights of safetensors go to a command, too', async () => {
  mkdirSync(at('st'));
  writeFileSync(at('st/model.safetensors'), twoTensors());
  const result = await initProject({ dir: at('stp'), model: at('st'), command: ['/serve'], yes: true, lock: false });
  expect(result.model).toMatchObject({ format: 'safetensors', summary: 'safetensors, 2 tensors, 14 parameters' });
});

describe('links to directories', () => {
  test('attack: a project reached by a link: its paths start from where it is', async () => {
    mkdirSync(at('far/away/place'), { recursive: true });
    symlinkSync(at('far/away/place'), at('link'));
    const { dir: made } = await init('link/project');
    expect(made).toBe(at('far/away/place/project'));
    expect(await loadProject(made)).toMatchObject({ model: { path: digits } });
  });

  test('attack: a model that holds the project, by a link', async () => {
    mkdirSync(at('holds/project'), { recursive: true });
    cpSync(digits, at('holds/model.onnx'));
    symlinkSync(at('holds'), at('to-holds'));
    for (const [dir, model] of [
      ['holds/project', 'to-holds/../to-holds/'],
      ['to-holds/project', 'holds'],
      ['to-holds', 'holds'],
    ] as const) {
      await expect(init(dir, { model: at(model) }), dir).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_(INIT_MODEL|MODEL_ENTRY)$/),
      });
    }
    expect(readdirSync(at('holds'))).toEqual(['model.onnx', 'project']);
  });

  test('a model in the project, named by a link, is in it', async () => {
    mkdirSync(at('within'));
    cpSync(digits, at('within/model.onnx'));
    symlinkSync(at('within'), at('to-within'));
    const { model } = await init('within', { model: at('to-within/model.onnx'), copy: true });
    expect(model).toMatchObject({ path: 'model.onnx', copied: false });
    expect(read('within/.gitignore')).toContain('\n/model.onnx\n');
  });

  test('attack: keys/ is a link: no private key is written where it leads', async () => {
    mkdirSync(at('keys-linked'));
    mkdirSync(at('elsewhere'));
    symlinkSync(at('elsewhere'), at('keys-linked/keys'));
    await expect(init('keys-linked')).rejects.toMatchObject({ code: 'ERR_INIT_EXISTS' });
    expect(readdirSync(at('elsewhere'))).toEqual([]);
  });

  test('the directory is a link to nothing: said, and nothing is made', async () => {
    symlinkSync(at('nowhere'), at('dangling'));
    await expect(init('dangling')).rejects.toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
      message: expect.stringContaining('dangling'),
    });
  });
});

test('attack: flags that a served graph has no use for are refused, not forgotten', async () => {
  for (const more of [{ image: 'oci:x/y:1' }, { command: ['a'] }, { port: 99 }]) {
    await expect(init('unused', more)).rejects.toMatchObject({ code: 'ERR_USAGE' });
  }
  expect(existsSync(at('unused'))).toBe(false);
});

import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseChallenges } from '../../../src/oci/auth-challenge.ts';
import { findCredentials } from '../../../src/oci/credentials.ts';
import { askHelper } from '../../../src/oci/credentials-helper.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import { cleanEnv, refusal } from './images.ts';

const NAME = { registry: 'registry.example', repository: 'team/app' };
const auth = (text: string) => ({ auth: Buffer.from(text).toString('base64') });
const is = (username: string, password: string) => ({ kind: 'password', username, password });

/** An environment whose home has these files. */
function home(files: Record<string, object | string>): NodeJS.ProcessEnv & { HOME: string } {
  const env = cleanEnv();
  for (const [name, content] of Object.entries(files)) {
    const path = join(env.HOME ?? '', name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  }
  return { ...env, HOME: env.HOME ?? '' };
}

/** A credential helper on the PATH: a shell script. */
function helper(env: NodeJS.ProcessEnv, script: string, name = 'test'): NodeJS.ProcessEnv {
  const dir = temporaryDirectory();
  writeFileSync(join(dir, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`);
  chmodSync(join(dir, `docker-credential-${name}`), 0o755);
  return { ...env, PATH: `${dir}:${env.PATH}`, OUT: join(dir, 'out') };
}

describe('where credentials lie', () => {
  test('nowhere', async () => {
    expect(await findCredentials(NAME, cleanEnv())).toBeNull();
    expect(await findCredentials(NAME, home({ '.docker/config.json': {} }))).toBeNull();
    expect(
      await findCredentials(NAME, home({ '.docker/config.json': { auths: { 'other.example': auth('a:b') } } })),
    ).toBeNull();
  });

  test.each([['registry.example'], ['https://registry.example'], ['https://registry.example/v1/']])(
    "Docker's file, by the key %s",
    async (key) => {
      const env = home({ '.docker/config.json': { auths: { [key]: auth('me:p:w\0') } } });
      expect(await findCredentials(NAME, env)).toEqual(is('me', 'p:w'));
    },
  );

  test("Docker's own registry has a key of its own", async () => {
    const env = home({ '.docker/config.json': { auths: { 'https://index.docker.io/v1/': auth('me:x') } } });
    expect(await findCredentials({ registry: 'docker.io', repository: 'library/python' }, env)).toEqual(is('me', 'x'));
    expect(await findCredentials(NAME, env)).toBeNull();
  });

  test('the order of files: the first that has any is right', async () => {
    const file = (user: string) => ({ auths: { 'registry.example': auth(`${user}:x`) } });
    const env = home({
      'a.json': file('named'),
      'run/containers/auth.json': file('run'),
      '.config/containers/auth.json': file('config'),
      'docker/config.json': file('variable'),
      '.docker/config.json': file('home'),
    });
    const at = (name: string) => join(env.HOME, name);
    const all: NodeJS.ProcessEnv = {
      ...env,
      REGISTRY_AUTH_FILE: at('a.json'),
      XDG_RUNTIME_DIR: at('run'),
      DOCKER_CONFIG: at('docker'),
    };
    expect(await findCredentials(NAME, all)).toEqual(is('named', 'x'));
    expect(await findCredentials(NAME, { ...all, REGISTRY_AUTH_FILE: '' })).toEqual(is('run', 'x'));
    expect(await findCredentials(NAME, env)).toEqual(is('config', 'x'));
    expect(await findCredentials(NAME, { ...env, XDG_CONFIG_HOME: at('none'), DOCKER_CONFIG: at('docker') })).toEqual(
      is('variable', 'x'),
    );
    expect(await findCredentials(NAME, { ...env, XDG_CONFIG_HOME: at('none') })).toEqual(is('home', 'x'));
    await refusal(findCredentials(NAME, { ...all, REGISTRY_AUTH_FILE: at('none') }), 'ERR_FILE_NOT_FOUND', 2, /none/);
  });

  test("containers' file: a repository's own before its namespace's before the registry's", async () => {
    const auths = {
      'registry.example': auth('all:x'),
      'registry.example/team': auth('team:x'),
      'registry.example/team/app': auth('app:x'),
    };
    const env = home({ '.config/containers/auth.json': { auths } });
    const of = (repository: string) => findCredentials({ ...NAME, repository }, env);
    expect(await of('team/app')).toEqual(is('app', 'x'));
    expect(await of('team/other')).toEqual(is('team', 'x'));
    expect(await of('teams/app')).toEqual(is('all', 'x'));
  });

  test('tokens, and what is written beside them', async () => {
    const find = (entry: object) =>
      findCredentials(NAME, home({ '.docker/config.json': { auths: { 'registry.example': entry } } }));
    expect(await find({ ...auth('00000000:'), identitytoken: 'refresh' })).toEqual({
      kind: 'refresh',
      token: 'refresh',
    });
    expect(await find({ registrytoken: 'access' })).toEqual({ kind: 'access', token: 'access' });
    expect(await find({ username: 'me', password: 'x' })).toEqual(is('me', 'x'));
    expect(await find({ email: 'me@example' })).toBeNull();
  });

  test('a file that is none: it is named, what is in it is not', async () => {
    for (const content of [
      '{"auths": top secret',
      '{"auths":{"registry.example":{"auth":{"top":"secret"}}}}',
      '{"auths":{"registry.example":{"auth":"top secret"}}}',
      '{"auths":{"registry.example":{"auth":"dG9wIHNlY3JldA=="}}}',
    ]) {
      const error = await refusal(
        findCredentials(NAME, home({ '.docker/config.json': content })),
        'ERR_OCI_CREDENTIALS',
        2,
        /config\.json cannot be read/,
      );
      expect(JSON.stringify(error) + error.stack).not.toMatch(/secret|dG9w/);
    }
  });

  test('a registry whose name every object has finds nothing', async () => {
    const env = home({ '.docker/config.json': { auths: {}, credHelpers: {} } });
    expect(await findCredentials({ registry: 'constructor', repository: '__proto__' }, env)).toBeNull();
  });
});

describe('credential helpers', () => {
  const ANSWER = `printf '{"ServerURL":"x","Username":"me","Secret":"%s"}' "p'w"`;

  test('are asked by their protocol: `get`, the server on standard input', async () => {
    const files = { '.docker/config.json': { credHelpers: { 'registry.example': 'test' }, credsStore: 'none' } };
    const env = helper(home(files), `echo "$@" > "$OUT"; cat >> "$OUT"; ${ANSWER}`);
    expect(await findCredentials(NAME, env)).toEqual(is('me', "p'w"));
    expect(readFileSync(String(env.OUT), 'utf8')).toBe('get\nregistry.example\n');
  });

  test('a store serves every registry; where it knows nothing, the file may', async () => {
    const files = { '.docker/config.json': { credsStore: 'test', auths: { 'registry.example': auth('file:x') } } };
    const knowing = helper(home(files), `[ "$(cat)" = registry.example ] && ${ANSWER}`);
    expect(await findCredentials(NAME, knowing)).toEqual(is('me', "p'w"));
    const ignorant = helper(home(files), 'echo "credentials not found in native keychain"; exit 1');
    expect(await findCredentials(NAME, ignorant)).toEqual(is('file', 'x'));
    const token = helper(home(files), `printf '{"Username":"<token>","Secret":"refresh"}'`);
    expect(await findCredentials(NAME, token)).toEqual({ kind: 'refresh', token: 'refresh' });
  });

  test('credential helper injection: a name that is a path, an option or a command starts nothing', async () => {
    for (const name of [
      'x; touch "$OUT"',
      '../../bin/sh',
      '/bin/sh',
      '-x',
      '$(touch x)',
      'a b',
      '',
      '.',
      'x\n',
      'é',
      'x'.repeat(65),
    ]) {
      const env = helper(cleanEnv(), 'touch "$OUT"', 'test');
      await refusal(askHelper(name, 'registry.example', env), 'ERR_OCI_CREDENTIALS', 5, /its name is none/);
      expect(existsSync(String(env.OUT))).toBe(false);
    }
  });

  test("credential helper injection: a server's name is input and never an argument", async () => {
    const env = helper(cleanEnv(), `echo $# > "$OUT"; cat > /dev/null; ${ANSWER}`);
    await askHelper('test', '$(touch x); --help', env);
    expect(readFileSync(String(env.OUT), 'utf8')).toBe('1\n');
  });

  test.each([
    ['is missing', null, /cannot be started \((ENOENT|EACCES)\)/],
    ['fails', 'echo top secret; echo top secret >&2; exit 3', /ended with status 3/],
    ['is killed', 'kill -9 $$', /ended with status null/],
    ['says nothing', ':', /did not answer with/],
    ['says something else', 'echo top secret', /did not answer with/],
    ['says JSON of another kind', `echo '{"Secret":"top secret"}'`, /did not answer with/],
    ['never stops talking', 'while :; do echo top secret; done', /printed more than/],
    ['never stops thinking', 'sleep 1000', /did not answer in/],
    ['leaves somebody behind who holds the line', 'sleep 1000 & exit 0', /did not answer in/],
  ])('one that %s is an error that tells no secret', async (_, script, why) => {
    const env = script === null ? cleanEnv() : helper(cleanEnv(), script);
    const limit = why.source.includes('answer in') ? 200 : 30_000;
    const error = await refusal(askHelper('test', 'registry.example', env, limit), 'ERR_OCI_CREDENTIALS', 5, why);
    expect(JSON.stringify(error) + error.stack).not.toContain('top secret');
  });

  test('what a helper started ends with it', async () => {
    const env = helper(cleanEnv(), 'sleep 1000 & echo $! > "$OUT"; while :; do echo x; done');
    await refusal(askHelper('test', 'registry.example', env), 'ERR_OCI_CREDENTIALS', 5, /printed more than/);
    const pid = Number(readFileSync(String(env.OUT), 'utf8'));
    const state = () => {
      try {
        return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0];
      } catch {
        return 'gone';
      }
    };
    await expect.poll(state).toMatch(/gone|Z/);
  });
});

describe('WWW-Authenticate (RFC 9110, 11.6.1)', () => {
  test.each([
    [
      'Bearer realm="https://a/token",service="s",scope="repository:x:pull,push"',
      [['bearer', { realm: 'https://a/token', service: 's', scope: 'repository:x:pull,push' }]],
    ],
    ['Basic realm="a \\"b\\" c"', [['basic', { realm: 'a "b" c' }]]],
    [
      'BASIC realm=x, bearer REALM=y , service=z',
      [
        ['basic', { realm: 'x' }],
        ['bearer', { realm: 'y', service: 'z' }],
      ],
    ],
    ['Negotiate', [['negotiate', {}]]],
    ['', []],
    ['realm="x"', []],
    ['"', []],
    [
      'Bearer realm="unfinished',
      [
        ['bearer', {}],
        ['realm', {}],
      ],
    ],
  ])('%s', (header, expected) => {
    const found = parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);
    expect(found).toEqual(expected);
  });

  test('a header that makes a regular expression think ends soon', () => {
    expect(parseChallenges(`Bearer realm="${'\\'.repeat(16_000)}`).length).toBeLessThan(3);
    expect(parseChallenges(' ,'.repeat(8_000))).toEqual([]);
  });
});

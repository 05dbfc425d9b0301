/** A model sealed to two of three brokers: real brokers, a real enclave program, what each attack comes to on the command line. */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { atomaTeeAsync, type BrokerProcess, startBroker, stopBrokers } from './brokers.ts';
import { atomaTee, digits, type Outcome, ok, scratch } from './cli.ts';

const { dir, remove } = scratch();
const at = (name: string) => join(dir, name);
const env = { XDG_CONFIG_HOME: at('config') };
const manifest = at('dist/build.intoto.json');
const NAMES = ['a', 'b', 'c'] as const;
const cli = (...args: string[]) => atomaTee([...args, '--json'], { env });
const run = (...args: string[]) =>
  atomaTeeAsync(
    ['run', manifest, '--model', at('m.sealed'), '--input', join(digits, 'inputs/00.json'), '--json', ...args],
    env,
  );
const sealArgs = (out: string, ...more: string[]) => [
  ...['seal', join(digits, 'model'), '--manifest', manifest, '--sign', join(digits, 'demo-owner.key')],
  ...NAMES.flatMap((name) => ['--to', at(`${name}.key.pub`)]),
  ...['--recovery', at('recovery.key.pub'), '--allow-simulated', 'local', '--out', at(out), ...more],
];

let brokers: Record<(typeof NAMES)[number], BrokerProcess>;
/** Where nobody listens. */
let dead = '';

beforeAll(async () => {
  ok(cli('build', digits, '--out', at('dist')));
  for (const name of NAMES) ok(cli('keygen', '--type', 'broker', '--out', at(`${name}.key`)));
  ok(cli('keygen', '--type', 'recovery', '--out', at('recovery.key')));
  const sealed = ok(cli(...sealArgs('m.sealed', '--threshold', '2')));
  expect(sealed.json).toMatchObject({
    threshold: { t: 2, n: 3 },
    brokers: [/./, /./, /./].map((re) => expect.stringMatching(re)),
  });
  expect(sealed.stderr).toContain('any 2 of the 3 brokers together can open this model; fewer learn nothing');
  const [a, b, c] = await Promise.all(
    NAMES.map((name) => startBroker(at(`${name}.key`), env, ['--audit', at(`${name}.audit`)])),
  );
  if (!a || !b || !c) throw new Error('no broker');
  brokers = { a, b, c };
  const gone = await serve(() => {});
  gone.close();
  dead = gone.url;
});
afterAll(async () => {
  await stopBrokers();
  remove();
});

/** An HTTP server of this process; closed by the caller. */
async function serve(answer: (request: IncomingMessage, body: Buffer, response: ServerResponse) => void) {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    answer(request, Buffer.concat(chunks), response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Passes requests on to a broker and lies about the release. */
const liar = (url: string) =>
  serve(async (request, body, response) => {
    const reply = await fetch(url + request.url, { method: 'POST', body });
    const bytes = Buffer.from(await reply.arrayBuffer());
    if (request.url === '/v1/release') bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    response.writeHead(reply.status).end(bytes);
  });

test('two of three brokers release; each keeps its own audit log', async () => {
  const outcome = await run('--broker', brokers.a.url, '--broker', brokers.c.url);
  ok({ ...outcome, signal: null } as Outcome);
  expect(outcome.json.outputs[0].name).toBe('label');
  for (const name of ['a', 'c']) {
    const [line = '', rest] = readFileSync(at(`${name}.audit`), 'utf8').split('\n');
    expect(JSON.parse(line)).toMatchObject({ event: 'release', index: 0, epoch: 1 });
    expect(rest).toBe('');
  }
  expect(readFileSync(at('b.audit'), 'utf8')).toBe('');
});

test('one dead, one lying: the other two are enough; without one of those, both are named with what they did', async () => {
  const { a, b, c } = brokers;
  const lie = await liar(b.url);
  const first = ['--broker', dead, '--broker', lie.url, '--broker', a.url];
  const outcome = await run(...first, '--broker', c.url, '--console');
  expect(outcome.code).toBe(0);
  expect(outcome.stderr).toContain(`broker 1 at ${dead} does not answer`);
  expect(outcome.stderr).toContain('broker 1 did not release');
  const { code, json } = await run(...first);
  lie.close();
  expect({ code, error: json.error.code }).toEqual({ code: 4, error: 'ERR_RELEASE_THRESHOLD' });
  expect(json.error.message).toMatch(/^expected 2 of the 3 brokers of this model to release it, found 1; /);
  expect(json.error.message).toContain(`broker 1 at ${dead}: expected an answer from the broker`);
  expect(json.error.message).toContain(
    `broker 2 at ${lie.url} (key id ${b.keyId}): expected a share encrypted to this enclave`,
  );
  expect(json.error.details).toMatchObject({ threshold: 2, released: 1, brokers: [{ broker: 1 }, { broker: 2 }] });
});

test('refused by policy at every broker: exit 4, and each is named', async () => {
  ok(cli(...sealArgs('late.sealed', '--threshold', '2', '--not-after', '2020-01-01')));
  const args = ['run', manifest, '--model', at('late.sealed'), '--input', join(digits, 'inputs/00.json'), '--json'];
  const { a, b } = brokers;
  const { code, json } = await atomaTeeAsync([...args, '--broker', a.url, '--broker', b.url], env);
  expect({ code, error: json.error.code }).toEqual({ code: 4, error: 'ERR_RELEASE_POLICY' });
  for (const [i, { url, keyId }] of [a, b].entries())
    expect(json.error.message).toContain(
      `broker ${i + 1} at ${url} (key id ${keyId}): the broker refused (policy.not-after)`,
    );
});

test('brokers of this process: two keys are enough, one key twice is one', () => {
  const args = ['run', manifest, '--model', at('m.sealed'), '--input', join(digits, 'inputs/00.json')];
  const keys = (...names: string[]) => names.flatMap((name) => ['--broker-key', at(`${name}.key`)]);
  const twice = cli(...args, ...keys('a', 'a'), '--allow-simulated', 'local');
  expect(twice.json.error).toMatchObject({
    code: 'ERR_RELEASE_RECIPIENT',
    message: expect.stringContaining('found 1; broker '),
  });
  ok(cli(...args, ...keys('b', 'c'), '--allow-simulated', 'local'));
});

test('a threshold above the number of brokers: exit 2', () => {
  const { code, json } = cli(...sealArgs('never.sealed', '--threshold', '4'));
  expect({ code, error: json.error.code }).toEqual({ code: 2, error: 'ERR_SEAL_THRESHOLD' });
});

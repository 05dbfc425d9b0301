/** NITRO HARDWARE WAS NOT AVAILABLE: nitro-cli is a stand-in script here, and the enclave is this process. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Duplex, duplexPair } from 'node:stream';
import { afterAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { openChannel } from '../../../src/enclave/channel.ts';
import { launchNitro, type NitroOptions } from '../../../src/launch/nitro.ts';
import { runEnclave } from '../../../src/launch/nitro-cli.ts';
import { bytesPart, writeEif } from '../../../src/nitro/index.ts';
import { temporary } from './image.ts';
import { type Behaviour, E26, ENCLAVE, ERROR_LOG, standIn } from './nitro-cli-stand-in.ts';

const directory = temporary();
const bytes = bytesPart(Buffer.from('not looked into'));
const image = await writeEif({
  kernel: bytes,
  cmdline: '',
  ramdisks: [bytes, bytes],
  arch: 'x86_64',
  out: join(directory.path, 'tiny.eif'),
});
const { PATH } = process.env;
afterAll(directory.remove);

let count = 0;
/** Only this nitro-cli is in PATH. */
function nitroCli(behaviour: Behaviour) {
  const folder = join(directory.path, `cli${count++}`);
  const cli = standIn(folder, behaviour);
  process.env.PATH = `${folder}:${PATH}`;
  return cli;
}
beforeEach(() => {
  process.env.PATH = PATH;
});

const launch = (more: Partial<NitroOptions> = {}) =>
  launchNitro({
    eif: image.path,
    host: { model: image.path, brokers: [] },
    memoryMib: 1024,
    cpus: 2,
    debug: false,
    connect: () => Promise.reject(new Error('nobody listens')),
    ...more,
  });

/** The real program's half of the channel, which says that it serves, or why it does not. */
const programInside = (status: object) => async (): Promise<Duplex> => {
  const [host, enclave] = duplexPair();
  const channel = openChannel(enclave);
  void channel
    .status(status)
    .then(() =>
      channel.serve(async () => ({ status: 200, headers: {}, body: Buffer.from('here') }), {
        maxBody: 1024,
        maxBuffered: 4096,
        timeoutMs: 10_000,
      }),
    )
    .catch(() => {});
  return host;
};

const verbs = (calls: string[][]) => calls.map(([verb]) => verb).filter((verb) => verb !== 'describe-enclaves');

describe('nitro-cli as a stand-in script (no hardware)', () => {
  test('run-enclave gets a private copy, memory and processors; the enclave is terminated once, by its ID', async () => {
    const cli = nitroCli('runs');
    const seen: [number, number][] = [];
    const enclave = await launch({
      connect: (cid, port) => {
        seen.push([cid, port]);
        return programInside({ state: 'ready', timings: { open: 5 } })();
      },
    });
    expect(enclave.launcher).toEqual({
      kind: 'nitro',
      enclave: ENCLAVE.id,
      cid: ENCLAVE.cid,
      debug: false,
      memoryMib: 1024,
      cpus: 2,
    });
    expect(enclave.measurement).toEqual(image.measurement);
    expect(seen).toEqual([[ENCLAVE.cid, 5005]]);
    const reply = await enclave.request({ method: 'GET', path: '/' });
    expect(reply.body.toString()).toBe('here');
    await enclave.stop();
    await enclave.stop();
    const calls = cli.calls();
    expect(verbs(calls)).toEqual(['run-enclave', 'terminate-enclave']);
    const [run = []] = calls;
    expect(run.slice(1, 2)).toEqual(['--eif-path']);
    expect(run[2]).toMatch(/\/atoma-tee-launch\.[^/]+\/image\.eif$/);
    expect(run.slice(3, 8)).toEqual(['--memory', '1024', '--cpu-count', '2', '--enclave-name']);
    expect(run[8]).toMatch(/^atoma-tee-\d+-[0-9a-f]{12}$/);
    expect(run).toHaveLength(9);
    expect(calls.at(-1)).toEqual(['terminate-enclave', '--enclave-id', ENCLAVE.id]);
  });

  test('the host serves no evidence where hardware vouches', async () => {
    nitroCli('runs');
    const answers: unknown[] = [];
    const connect = async () => {
      const [host, enclave] = duplexPair();
      const channel = openChannel(enclave);
      void channel
        .attest({})
        .catch((error) => answers.push(error.message))
        .then(() => channel.status({ state: 'failed', error: { code: 'ERR_ATTESTER', message: 'x', exit: 'missing' } }))
        .catch(() => {});
      return host;
    };
    await expect(launch({ connect })).rejects.toMatchObject({ code: 'ERR_ATTESTER', exitCode: 5 });
    expect(answers).toEqual([expect.stringContaining('404')]);
  });

  test('debug mode is passed on, and its console is read', async () => {
    const cli = nitroCli('runs');
    const log: string[] = [];
    const launched = launch({ debug: true, bootTimeoutMs: 1500, onLog: (line) => log.push(line) });
    await expect(launched).rejects.toMatchObject({
      code: 'ERR_ENCLAVE_SILENT',
      details: { stage: 'init', console: ['init: hello from the console'] },
    });
    expect(log).toEqual(['init: hello from the console']);
    expect(cli.calls()[0]).toContain('--debug-mode');
    expect(verbs(cli.calls())).toEqual(['run-enclave', 'console', 'terminate-enclave']);
  });

  test('run-enclave fails: its own words, its code, its error log', async () => {
    const cli = nitroCli('fails');
    const error = await launch().catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'ERR_NITRO_CLI', exitCode: 1, hint: expect.stringContaining(ERROR_LOG) });
    expect(error.message).toContain(E26);
    expect(verbs(cli.calls()).filter((verb) => verb === 'terminate-enclave')).toHaveLength(1);
  });

  test('an answer that is not known: whatever was started is ended by its name', async () => {
    const cli = nitroCli('garbage');
    await expect(launch()).rejects.toMatchObject({ code: 'ERR_NITRO_CLI' });
    const name = cli.calls()[0]?.[8] ?? '';
    expect(cli.calls().slice(1)).toEqual([['terminate-enclave', '--enclave-name', name]]);
  });

  test('an enclave that dies before it serves: said, terminated once', async () => {
    const cli = nitroCli('dies');
    await expect(launch()).rejects.toMatchObject({
      code: 'ERR_ENCLAVE_ENDED',
      exitCode: 1,
      message: 'the enclave ended before it served',
      hint: expect.stringContaining('--debug-mode'),
    });
    expect(verbs(cli.calls())).toEqual(['run-enclave', 'terminate-enclave']);
  });

  test.each([
    ['megabytes', { big: 'x'.repeat(1 << 20) }],
    ['a forged console', { console: Array(1000).fill('error: your disk is on fire') }],
    ['a list', ['x']],
  ])('of what a hostile program tells of its failure, %s is left out', async (_, details) => {
    nitroCli('runs');
    const error = { code: 'ERR_X', message: 'x', exit: 'refused', details };
    const thrown = await launch({ connect: programInside({ state: 'failed', error }) }).catch((reason) => reason);
    expect(thrown).toMatchObject({ code: 'ERR_X', exitCode: 4 });
    expect(thrown.details).toBeUndefined();
  });

  test('the program’s own reason comes through: a broker’s refusal stays exit 4', async () => {
    const cli = nitroCli('runs');
    const error = { code: 'ERR_RELEASE_EVIDENCE', message: 'refused', exit: 'refused' };
    await expect(launch({ connect: programInside({ state: 'failed', error }) })).rejects.toMatchObject({
      code: 'ERR_RELEASE_EVIDENCE',
      exitCode: 4,
    });
    expect(verbs(cli.calls())).toEqual(['run-enclave', 'terminate-enclave']);
  });

  test('an image that is refused after it was measured: nitro-cli is never called', async () => {
    const cli = nitroCli('runs');
    const accept = () => {
      throw new Error('refused');
    };
    await expect(launch({ accept })).rejects.toThrow('refused');
    expect(cli.calls()).toEqual([]);
  });
});

test('no nitro-cli: exit 5 and the mend', async () => {
  process.env.PATH = directory.path;
  await expect(launch()).rejects.toMatchObject({
    code: 'ERR_NITRO_CLI_MISSING',
    exitCode: 5,
    hint: expect.stringContaining('--tee qemu'),
  });
});

describe('a nitro-cli that hangs', () => {
  const request = { eif: image.path, memoryMib: 1024, cpus: 2, name: 'x', debug: false };
  const pidOf = (path: string) => Number(readFileSync(join(path, '../pid'), 'utf8'));

  test('is not waited for without end', async () => {
    const { path } = nitroCli('hangs');
    await expect(runEnclave(path, request, { timeoutMs: 2000 })).rejects.toMatchObject({
      code: 'ERR_NITRO_CLI',
      message: expect.stringContaining('did not end'),
    });
    expect(() => process.kill(pidOf(path), 0)).toThrow();
  });

  test('ends with the launcher that a signal ends: it shall start no enclave that nobody knows of', async () => {
    const { path, calls } = nitroCli('hangs');
    const before = new Set(process.listeners('exit'));
    const launched = launch().catch((error) => error);
    await vi.waitFor(() => expect(pidOf(path)).toBeGreaterThan(0), { timeout: 20_000 });
    // What `process.exit` calls, after a signal.
    for (const listener of process.listeners('exit')) if (!before.has(listener)) listener.call(process, 1);
    expect(await launched).toMatchObject({ code: 'ERR_NITRO_CLI' });
    await vi.waitFor(() => expect(() => process.kill(pidOf(path), 0)).toThrow(), { timeout: 20_000 });
    expect(calls().map(([verb]) => verb)).toEqual(['run-enclave', 'terminate-enclave']);
  });
});

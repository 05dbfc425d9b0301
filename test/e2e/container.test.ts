import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { atomaTee, ok, root, scratch, sealCommand } from './cli.ts';

/** Debian's Python in a container image made by mmdebstrap and umoci, all the way to a verified answer. */
const { dir, remove } = scratch();
const at = (name: string) => join(dir, name);
const input = join(root, 'examples/digits/inputs/00.json');
const sh = (command: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) => {
  const child = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (child.status !== 0)
    throw new Error(`${command} ${args.join(' ')}: ${child.status}\n${child.stdout}\n${child.stderr}`);
  return child.stdout;
};
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

/** Answers every request with who it is and whether it can open for writing: a file of its own, and the kernel's settings. */
const WRITER = `
import errno, json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
def opened(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
        return "opened"
    except OSError as error:
        return errno.errorcode[error.errno]
PATHS = ["/proc/self/oom_score_adj", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger"]
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps([os.getuid()] + [opened(path) for path in PATHS]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
`;

/** A copy of the example whose base image is `reference`. */
function project(name: string, reference: string, more = ''): string {
  const copy = at(name);
  cpSync(join(root, 'examples/python-server'), copy, { recursive: true, filter: (path) => !path.includes('.oci') });
  const text = readFileSync(join(copy, 'enclave.toml'), 'utf8')
    .replace('../digits/demo-owner.pub', join(root, 'examples/digits/demo-owner.pub'))
    .replace(/^image = .*$/m, `image = "${reference}"`);
  writeFileSync(join(copy, 'enclave.toml'), text + more);
  return copy;
}

beforeAll(() => {
  sh('sh', [join(root, 'examples/python-server/image.sh'), at('python.oci')]);
  for (const type of ['broker', 'recovery']) ok(atomaTee(['keygen', '--type', type, '--out', at(`${type}.key`)]));
});
afterAll(remove);

describe('a container image that is no Node program', () => {
  let manifest = '';

  test('is locked and built, twice the same', () => {
    const copy = project('layout', `oci-layout:${at('python.oci')}:latest`);
    ok(atomaTee(['lock', copy]));
    const [first, second] = ['dist-1', 'dist-2'].map(
      (out) => ok(atomaTee(['build', copy, '--out', at(out), '--json'])).json,
    );
    expect(first.images[0].measurement).toEqual(second.images[0].measurement);
    expect(sha256(at('dist-1/python-digits.eif'))).toBe(sha256(at('dist-2/python-digits.eif')));
    expect(first.warnings.join('\n')).toMatch(/device/);
    manifest = first.manifest;
  });

  test('answers in the simulated TEE as its own user, and the proof verifies', () => {
    ok(
      atomaTee(
        sealCommand({
          model: join(root, 'examples/python-server/model'),
          manifest,
          owner: join(root, 'examples/digits/demo-owner.key'),
          broker: at('broker.key.pub'),
          out: at('model.sealed'),
        }),
      ),
    );
    const run = ok(atomaTee(runCommand(manifest, ['--tee', 'simulated']))).json;
    expect(run.outputs[0]).toMatchObject({ name: 'label', data: [8] });
    verified(manifest);
  });

  test('answers in a virtual machine, booted by QEMU from the same image, and the proof verifies', () => {
    const run = ok(atomaTee(runCommand(manifest, ['--tee', 'qemu', '--machine', 'microvm']))).json;
    expect(run.outputs[0]).toMatchObject({ name: 'label', data: [8] });
    expect(run.simulated).toBe(true);
    verified(manifest);
  });

  test('as root of a virtual machine it cannot name helpers for the kernel to start (core_pattern, modprobe)', () => {
    const copy = project('as-root', `oci-layout:${at('python.oci')}:latest`);
    const toml = join(copy, 'enclave.toml');
    const command = JSON.stringify(['/usr/bin/python3', '-c', WRITER]);
    const runtime = `kind = "command"\nuser = "0:0"\ncommand = ${command}`;
    writeFileSync(toml, readFileSync(toml, 'utf8').replace(/^kind = .*$/m, runtime));
    ok(atomaTee(['lock', copy]));
    const { manifest: asRoot } = ok(atomaTee(['build', copy, '--out', at('dist-as-root'), '--json'])).json;
    const files = { owner: join(root, 'examples/digits/demo-owner.key'), broker: at('broker.key.pub') };
    const model = join(root, 'examples/python-server/model');
    ok(atomaTee(sealCommand({ ...files, model, manifest: asRoot, out: at('as-root.sealed') })));
    const run = ok(
      atomaTee([
        ...['run', asRoot, '--model', at('as-root.sealed'), '--input', input, '--broker-key', at('broker.key')],
        ...['--allow-simulated', 'local', '--tee', 'qemu', '--machine', 'microvm', '--json'],
      ]),
    ).json;
    // It is root, and files of root's that are not the kernel's settings can be opened for writing.
    expect(JSON.parse(run.reply.text)).toEqual([0, 'opened', 'EROFS', 'EROFS', 'EROFS']);
  });

  test('from a docker-archive made by skopeo measures the same, but for what the image says of itself', () => {
    sh('skopeo', ['copy', `oci:${at('python.oci')}:latest`, `docker-archive:${at('python.tar')}:python:1`]);
    const copy = project('archive', `docker-archive:${at('python.tar')}`);
    ok(atomaTee(['lock', copy]));
    const { images } = ok(atomaTee(['build', copy, '--out', at('dist-archive'), '--json'])).json;
    // The same files, the same command: the way that an image came does not change its measurement.
    expect(images[0].measurement.pcr2).toBe(
      ok(atomaTee(['inspect', at('dist-1/python-digits.eif'), '--json'])).json.measurement.pcr2,
    );
  });

  test('from a registry: the tag is resolved once, and a moved tag changes nothing until the lock does', async () => {
    await withRegistry(at('registry'), async (host) => {
      const push = (oci: string) =>
        sh('skopeo', ['copy', '--dest-tls-verify=false', `oci:${oci}:latest`, `docker://${host}/team/python:v1`]);
      push(at('python.oci'));
      const copy = project('registry-project', `oci:${host}/team/python:v1`);
      ok(atomaTee(['lock', copy]));
      const lock = readFileSync(join(copy, 'atoma-tee.lock'), 'utf8');
      expect(lock).toMatch(/digest = "sha256:[0-9a-f]{64}"/);

      cpSync(at('python.oci'), at('moved.oci'), { recursive: true });
      sh('umoci', ['config', '--image', `${at('moved.oci')}:latest`, '--config.env', 'MOVED=1']);
      push(at('moved.oci'));
      const kept = ok(atomaTee(['build', copy, '--out', at('dist-registry'), '--json'])).json;
      const cache = { XDG_CACHE_HOME: at('empty-cache') };
      warmBase(cache.XDG_CACHE_HOME);
      const cold = ok(atomaTee(['build', copy, '--out', at('dist-cold'), '--json'], { env: cache })).json;
      expect(cold.images[0].measurement).toEqual(kept.images[0].measurement);
      ok(atomaTee(['lock', copy, '--local']));
      const moved = ok(atomaTee(['build', copy, '--out', at('dist-moved'), '--json'])).json;
      expect(moved.images[0].measurement).not.toEqual(kept.images[0].measurement);
    });
  });
});

describe('refused, with nothing left behind', () => {
  test('a base that is another than the locked one', () => {
    const copy = project('swapped', `oci-layout:${at('swapped.oci')}:latest`);
    cpSync(at('python.oci'), at('swapped.oci'), { recursive: true });
    ok(atomaTee(['lock', copy]));
    sh('umoci', ['config', '--image', `${at('swapped.oci')}:latest`, '--config.env', 'LD_PRELOAD=/evil.so']);
    // The layout still holds the locked image, and that is what is built; once it is gone, nothing else takes its place.
    ok(atomaTee(['build', copy, '--out', at('dist-swapped')]));
    sh('umoci', ['gc', '--layout', at('swapped.oci')]);
    const cache = { XDG_CACHE_HOME: at('swapped-cache') };
    warmBase(cache.XDG_CACHE_HOME);
    const outcome = atomaTee(['build', copy, '--json'], { env: cache });
    expect([outcome.code, outcome.json.error.code]).toEqual([3, 'ERR_OCI_DIGEST']);
    expect(readdirSync(copy)).not.toContain('dist');
  });

  test('a layer whose bytes were changed', () => {
    const copy = project('corrupt', `oci-layout:${at('corrupt.oci')}:latest`);
    cpSync(at('python.oci'), at('corrupt.oci'), { recursive: true });
    const blobs = join(at('corrupt.oci'), 'blobs/sha256');
    const [largest = ''] = readdirSync(blobs).sort(
      (a, b) => readFileSync(join(blobs, b)).length - readFileSync(join(blobs, a)).length,
    );
    const bytes = readFileSync(join(blobs, largest));
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(join(blobs, largest), bytes);
    const outcome = atomaTee(['lock', copy, '--json'], { env: { XDG_CACHE_HOME: at('corrupt-cache') } });
    expect(outcome.code).toBe(3);
    expect(outcome.json.error.code).toBe('ERR_OCI_DIGEST');
    expect(existsSync(join(copy, 'atoma-tee.lock'))).toBe(false);
  });

  test('an image without a command', () => {
    const copy = project('silent', `oci-layout:${at('silent.oci')}:latest`);
    sh('umoci', ['init', '--layout', at('silent.oci')]);
    sh('umoci', ['new', '--image', `${at('silent.oci')}:latest`]);
    ok(atomaTee(['lock', copy]));
    const outcome = atomaTee(['build', copy, '--json']);
    expect([outcome.code, outcome.json.error.code]).toEqual([2, 'ERR_IMAGE_COMMAND']);
    expect(readdirSync(copy)).not.toContain('dist');
  });

  test('enclave.toml that has come to name another image than the lock', () => {
    const copy = project('stale', `oci-layout:${at('python.oci')}:latest`);
    ok(atomaTee(['lock', copy]));
    const toml = join(copy, 'enclave.toml');
    writeFileSync(toml, readFileSync(toml, 'utf8').replace(/^image = .*$/m, 'image = "dir:root"'));
    const outcome = atomaTee(['build', copy, '--json']);
    expect([outcome.code, outcome.json.error.code]).toEqual([2, 'ERR_LOCK_STALE']);
  });
});

const runCommand = (manifest: string, more: string[]) => [
  ...['run', manifest, '--model', at('model.sealed'), '--input', input, '--broker-key', at('broker.key')],
  ...['--allow-simulated', 'local', '--receipt', at('receipt.cbor'), '--evidence', at('evidence.json')],
  ...['--response', at('response.json'), '--json', ...more],
];

function verified(manifest: string): void {
  const verdict = ok(
    atomaTee([
      ...['verify', at('receipt.cbor'), '--evidence', at('evidence.json'), '--manifest', manifest],
      ...['--request', input, '--response', at('response.json'), '--allow-simulated', 'local', '--json'],
    ]),
  ).json;
  expect(verdict.verdict).toBe('pass');
}

/** A cache with the base's packages and nothing of any container image. */
function warmBase(home: string): void {
  const shared = join(process.env.XDG_CACHE_HOME ?? join(process.env.HOME ?? '/root', '.cache'), 'atoma-tee');
  for (const name of ['archives', 'trees', 'files']) {
    mkdirSync(join(home, 'atoma-tee'), { recursive: true });
    cpSync(join(shared, name), join(home, 'atoma-tee', name), { recursive: true });
  }
}

/** Debian's docker-registry on a free port of the loopback interface, ended by its id. */
async function withRegistry(storage: string, use: (host: string) => Promise<void>): Promise<void> {
  const port = await freePort();
  const config = at('registry.yml');
  mkdirSync(storage);
  writeFileSync(
    config,
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${storage}}}\nhttp: {addr: "127.0.0.1:${port}"}\n`,
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    for (let tries = 0; ; tries++) {
      const reply = await fetch(`http://127.0.0.1:${port}/v2/`).catch(() => null);
      if (reply?.ok) break;
      if (tries > 100) throw new Error('docker-registry does not answer');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await use(`127.0.0.1:${port}`);
  } finally {
    child.kill();
    await ended;
  }
}

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

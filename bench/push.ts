// `push` of a sealed model to a local docker-registry against `skopeo copy` of the same blobs from an OCI layout, and the way back,
// interleaved in one run, each to an empty registry:
//   node bench/push.ts [--mib 1024] [--parts 4] [--rounds 3] [--dir DIR] [--json]
// Debian's docker-registry and skopeo are needed, and `npm run build`: times are of whole processes as a user starts them.
import { execFileSync, spawn } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, randomBytes, randomFillSync } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pullSealed } from '../src/artifact/pull.ts';
import { pushSealed } from '../src/artifact/push.ts';
import { sha256 } from '../src/core/bytes.ts';
import { encodeHeader, KIND, pad } from '../src/seal/header.ts';
import { encodePolicy } from '../src/seal/policy.ts';
import { median, report } from './lib.ts';

const MIB = 1 << 20;
const QUIET = { stdio: 'ignore' } as const;

if (process.argv[2] === '--child') await child(process.argv.slice(3));
else await main();

async function child([what, file, reference]: string[]): Promise<void> {
  if (what === 'push') await pushSealed({ sealed: String(file), reference: String(reference) });
  else await pullSealed({ reference: String(reference), out: String(file) });
  console.log(process.resourceUsage().maxRSS / 1024);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      mib: { type: 'string', default: '1024' },
      parts: { type: 'string', default: '4' },
      rounds: { type: 'string', default: '3' },
      dir: { type: 'string', default: tmpdir() },
      json: { type: 'boolean', default: false },
    },
  });
  const dir = mkdtempSync(join(values.dir, 'atoma-push-bench-'));
  try {
    const result = await compare(dir, Number(values.mib), Number(values.parts), Number(values.rounds));
    if (values.json) return console.log(JSON.stringify(result, null, 2));
    console.log(`${values.mib} MiB in ${values.parts} parts, medians of ${values.rounds} rounds`);
    for (const [name, seconds] of Object.entries(result.seconds))
      console.log(`  ${name.padEnd(12)} ${seconds.toFixed(2)} s`);
    report('push / skopeo copy', result.push);
    report('pull / skopeo copy', result.pull);
    console.log(
      `peak resident memory: push ${result.rssMib.push.toFixed(0)} MiB, pull ${result.rssMib.pull.toFixed(0)} MiB`,
    );
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function compare(dir: string, mib: number, parts: number, rounds: number) {
  const sealed = join(dir, 'model.sealed');
  writeSealed(sealed, (mib / parts) * MIB, parts);
  const layout = join(dir, 'layout');
  const times: Record<string, number[]> = { push: [], 'skopeo push': [], pull: [], 'skopeo pull': [] };
  const rssMib = { push: 0, pull: 0 };
  const cli = join(import.meta.dirname, '../bin/atoma-tee');
  const own = (what: 'push' | 'pull', round: number, file: string, reference: string) => {
    if (round > 0)
      return execFileSync(cli, what === 'push' ? [what, file, reference] : [what, reference, '--out', file], QUIET);
    const args = [import.meta.filename, '--child', what, file, reference];
    rssMib[what] = Number(execFileSync(process.execPath, args, { encoding: 'utf8' }));
  };
  const skopeo = (from: string, to: string) =>
    execFileSync('skopeo', [
      '--insecure-policy',
      'copy',
      '-q',
      '--src-tls-verify=false',
      '--dest-tls-verify=false',
      from,
      to,
    ]);
  // The first round makes the layout, warms up, and says how much memory it takes.
  for (let round = 0; round <= rounds; round++) {
    const timed = (name: string, work: () => void) => {
      const before = performance.now();
      work();
      if (round > 0) times[name]?.push((performance.now() - before) / 1000);
    };
    const back = join(dir, 'back');
    await withRegistry(dir, (host) => {
      timed('push', () => own('push', round, sealed, `${host}/m:1`));
      timed('pull', () => own('pull', round, back, `${host}/m:1`));
      rmSync(back);
      if (round === 0) skopeo(`docker://${host}/m:1`, `oci:${layout}:1`);
    });
    if (round > 0) {
      await withRegistry(dir, (host) => {
        timed('skopeo push', () => skopeo(`oci:${layout}:1`, `docker://${host}/m:1`));
        timed('skopeo pull', () => skopeo(`docker://${host}/m:1`, `oci:${back}:1`));
        rmSync(back, { recursive: true });
      });
    }
  }
  const seconds = Object.fromEntries(Object.entries(times).map(([name, list]) => [name, median(list)]));
  const ratio = (name: string) => (seconds[name] ?? Number.NaN) / (seconds[`skopeo ${name}`] ?? Number.NaN);
  return { mib, parts, rounds, seconds, push: ratio('push'), pull: ratio('pull'), rssMib, times };
}

/** A registry of nothing, on a free port. */
async function withRegistry(dir: string, work: (host: string) => void): Promise<void> {
  const data = join(dir, 'registry');
  mkdirSync(data);
  const config = join(data, 'config.yml');
  const storage = { filesystem: { rootdirectory: data } };
  writeFileSync(
    config,
    JSON.stringify({ version: '0.1', log: { level: 'info' }, storage, http: { addr: '127.0.0.1:0' } }),
  );
  const log = openSync(join(data, 'log'), 'w');
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', log] });
  const ended = new Promise((resolve) => child.on('close', resolve));
  try {
    let port: string | undefined;
    for (let tries = 0; port === undefined && tries < 200; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      port = /listening on 127\.0\.0\.1:(\d+)/.exec(readFileSync(join(data, 'log'), 'utf8'))?.[1];
    }
    work(`127.0.0.1:${port}`);
  } finally {
    child.kill('SIGKILL');
    await ended;
    closeSync(log);
    rmSync(data, { recursive: true, force: true });
  }
}

/** A sealed model as `push` sees it: random bytes are as good as ciphertext. */
function writeSealed(path: string, partLength: number, count: number): void {
  const { privateKey } = generateKeyPairSync('ed25519');
  const index = randomBytes(5000);
  const recipient = { kind: KIND.broker, keyId: randomBytes(16), share: 1 };
  const header = encodeHeader(
    {
      suite: 1,
      sealId: randomBytes(16),
      epoch: 1,
      policyBytes: encodePolicy({
        any: [{ tee: 'nitro', pcr8: '11'.repeat(48) }],
        project: 'bench',
        model: 'ab'.repeat(32),
      }),
      created: 0,
      parts: Array.from({ length: count }, () => ({ id: randomBytes(16), length: partLength })),
      index: { length: index.length, sha256: sha256(index) },
      threshold: { t: 1, n: 1 },
      recipients: [{ ...recipient, enc: randomBytes(1120), ciphertext: randomBytes(48), commitment: randomBytes(32) }],
      commitment: randomBytes(32),
      owner: createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-32),
    },
    privateKey,
  );
  const fd = openSync(path, 'w');
  for (const bytes of [header, index])
    writeSync(fd, Buffer.concat([bytes, Buffer.alloc(pad(bytes.length) - bytes.length)]));
  const block = Buffer.alloc(MIB);
  for (let part = 0; part < count; part++) {
    for (let left = partLength; left > 0; left -= MIB)
      writeSync(fd, randomFillSync(block).subarray(0, Math.min(MIB, left)));
    writeSync(fd, Buffer.alloc(pad(partLength) - partLength));
  }
  closeSync(fd);
}

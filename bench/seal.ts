// Seal and unseal of one large file against what this machine can do at best, interleaved in one run:
//   node bench/seal.ts [--mib 1024] [--rounds 5] [--dir DIR] [--json]
// Limits, on two threads each: AES-256-GCM and the SHA-256 that the operation computes, in memory (one thread hashes, one encrypts; both
// encrypt where the digests are remembered); two `dd` halves, synced where the operation syncs (seal does; unseal, like cp, does not). The
// bar is 1.3 of the slower one, by medians. RSS and CPU are of a process that does only that, of what `npm run build` made if it is there.
// "open" is what an enclave does: decrypt and digest in one thread into a file in memory. "age + sha256sum" are side by side.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { createCipheriv, createHash, generateKeyPairSync, randomBytes, randomFillSync } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { median } from './lib.ts';

const built = join(import.meta.dirname, '..', 'dist');
const load = async <M>(module: string): Promise<M> =>
  existsSync(built)
    ? import(join(built, `${module}.js`))
    : import(join(import.meta.dirname, '..', 'src', `${module}.ts`));
const { newXWingSeed, xwingPublicFromSeed } = await load<typeof import('../src/keys/xwing.ts')>('keys/xwing');
const { digestModel, DigestCache, digestFiles, listModel } =
  await load<typeof import('../src/model/index.ts')>('model/index');
const { extract, fileSource, openIndex, readHeader, sealModel, unsealFile } =
  await load<typeof import('../src/seal/index.ts')>('seal/index');
const { unwrapContentKey } = await load<typeof import('../src/seal/recipients.ts')>('seal/recipients');

const MIB = 1 << 20;
const BAR = 1.3;
const STRIDE = 256 << 10;

interface Measured {
  seconds: number;
  cpuSeconds: number;
  rssMib: number;
}

if (!isMainThread) cryptoThread(workerData as { task: 'hash' | 'encrypt'; mib: number });
else if (process.argv[2] === '--child') await child(process.argv.slice(3));
else await main();

/** One thread of the in-memory limit. */
function cryptoThread({ task, mib }: { task: 'hash' | 'encrypt'; mib: number }): void {
  const block = randomFillSync(Buffer.allocUnsafe(MIB));
  const hash = createHash('sha256');
  const key = randomBytes(32);
  for (let i = 0; i < mib; i++) {
    if (task === 'hash') {
      hash.update(block);
      continue;
    }
    // In strides that malloc serves from warm pages: a limit, not what a naive loop does.
    const cipher = createCipheriv('aes-256-gcm', key, randomBytes(12));
    for (let at = 0; at < MIB; at += STRIDE)
      (cipher.update(block.subarray(at, at + STRIDE)).buffer as ArrayBuffer).transfer(0);
    cipher.final();
  }
  hash.digest();
}

async function cryptoLimit(mib: number, hashing: boolean): Promise<number> {
  const thread = (task: 'hash' | 'encrypt', size: number) =>
    new Promise((done, fail) => {
      new Worker(new URL(import.meta.url), { workerData: { task, mib: size } }).on('exit', done).on('error', fail);
    });
  return timed(() =>
    Promise.all(
      hashing
        ? [thread('hash', mib), thread('encrypt', mib)]
        : [thread('encrypt', mib / 2), thread('encrypt', mib / 2)],
    ),
  );
}

/** Copies `from` to `to` with two processes, a half each. */
async function ddLimit(from: string, to: string, mib: number, sync: boolean): Promise<number> {
  const half = Math.floor(mib / 2);
  const run = promisify(execFile);
  const dd = (skip: number, count: number) =>
    run('dd', [
      `if=${from}`,
      `of=${to}`,
      'bs=1M',
      `skip=${skip}`,
      `seek=${skip}`,
      `count=${count}`,
      `conv=notrunc${sync ? ',fsync' : ''}`,
    ]);
  const seconds = await timed(() => Promise.all([dd(0, half), dd(half, mib - half)]));
  rmSync(to);
  return seconds;
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}

/** Runs one operation in a process of its own. */
function measured(args: string[]): Promise<Measured> {
  return new Promise((done, fail) => {
    const run = spawn(process.execPath, [import.meta.filename, '--child', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    run.stdout.on('data', (data) => {
      text += data;
    });
    run
      .on('error', fail)
      .on('exit', (code) => (code === 0 ? done(JSON.parse(text)) : fail(new Error(`${args[0]} failed`))));
  });
}

async function child([operation, dir, digest]: string[]): Promise<void> {
  const at = (name: string) => join(dir ?? '', name);
  const key = (name: string) => {
    const seed = readFileSync(at(name));
    return { seed, publicRaw: xwingPublicFromSeed(seed) };
  };
  const before = process.cpuUsage();
  const seconds = await timed(async () => {
    if (operation === 'unseal')
      return unsealFile({ sealed: at('model.sealed'), key: key('recovery'), out: at('opened') });
    if (operation === 'open') return openAsAnEnclave(at('model.sealed'), key('recovery'), at('opened'));
    return sealModel({
      model: at('model'),
      policy: { any: [{ tee: 'nitro', pcr8: '11'.repeat(48) }], project: 'bench', model: digest ?? '' },
      ownerKey: generateKeyPairSync('ed25519').privateKey,
      brokers: [key('broker').publicRaw],
      threshold: 1,
      recovery: key('recovery').publicRaw,
      out: at('model.sealed'),
      created: 1,
      expectDigest: digest ?? '',
      ...(operation === 'seal, remembered' ? { cacheDir: at('cache') } : {}),
    });
  });
  const { user, system } = process.cpuUsage(before);
  const result: Measured = {
    seconds,
    cpuSeconds: (user + system) / 1e6,
    rssMib: process.resourceUsage().maxRSS / 1024,
  };
  process.stdout.write(JSON.stringify(result));
}

/** What src/enclave/unlock.ts does with the key in hand; `out` had better be in memory. */
async function openAsAnEnclave(sealed: string, key: { seed: Uint8Array; publicRaw: Uint8Array }, out: string) {
  const source = await fileSource(sealed);
  const parsed = await readHeader(source);
  const ck = await unwrapContentKey(parsed.header, key);
  const fd = openSync(out, 'w');
  const sink = { write: async (chunk: Uint8Array) => void writeSync(fd, chunk), close: async () => closeSync(fd) };
  await extract(source, parsed, await openIndex(source, parsed, ck), ck, { open: async () => sink });
  await source.close();
}

/** As `build` leaves it for `seal`. */
async function remember(dir: string): Promise<void> {
  const model = join(dir, 'model');
  const files = await listModel(model);
  const cache = await DigestCache.open(join(dir, 'cache'), model);
  await cache.record(files, await digestFiles(files), Date.now() + 60_000);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      mib: { type: 'string', default: '1024' },
      rounds: { type: 'string', default: '5' },
      dir: { type: 'string', default: tmpdir() },
      json: { type: 'boolean', default: false },
    },
  });
  const mib = Number(values.mib);
  const dir = mkdtempSync(join(values.dir, 'atoma-bench-'));
  try {
    const report = await compare(dir, mib, Number(values.rounds));
    if (values.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else print(report);
    const met = Object.values(report.operations).every(({ ratio }) => ratio === null || ratio <= BAR);
    process.exitCode = met && report.rssMib < 256 ? 0 : 1;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function compare(dir: string, mib: number, rounds: number) {
  const model = join(dir, 'model');
  const copy = join(dir, 'copy');
  writeRandom(model, mib);
  for (const name of ['broker', 'recovery']) writeFileSync(join(dir, name), newXWingSeed());
  const { digest } = await digestModel(model);
  const age = ageCommand(dir);
  const times: Record<string, number[]> = {};
  const note = (name: string, seconds: number) => {
    times[name] ??= [];
    times[name].push(seconds);
  };
  await remember(dir);
  const cpu: Record<string, number[]> = {};
  let rssMib = 0;
  // The first round warms the page cache and memory that the machine has never touched; it does not count.
  for (let round = 0; round <= rounds; round++) {
    const counts = round > 0;
    const limit = async (name: string, run: () => Promise<number>) => {
      const seconds = await run();
      if (counts) note(name, seconds);
    };
    await limit('crypto', () => cryptoLimit(mib, true));
    await limit('encryption', () => cryptoLimit(mib, false));
    await limit('dd synced', () => ddLimit(model, copy, mib, true));
    for (const operation of ['seal', 'seal, remembered', 'unseal', 'open']) {
      if (operation === 'unseal') await limit('dd', () => ddLimit(model, copy, mib, false));
      const result = await measured([operation, dir, digest]);
      rmSync(join(dir, 'opened'), { recursive: true, force: true });
      rssMib = Math.max(rssMib, result.rssMib);
      if (!counts) continue;
      note(operation, result.seconds);
      cpu[operation] ??= [];
      cpu[operation].push(result.cpuSeconds);
    }
    if (age) {
      const encrypt = () => age(['-r', age.recipient, '-o', `${copy}.age`, model]);
      await limit('age encrypt + sha256sum', () =>
        timed(() => Promise.all([encrypt(), promisify(execFile)('sha256sum', [model])])),
      );
      await limit('age encrypt', () => timed(encrypt));
      await limit('age decrypt', () => timed(() => age(['-d', '-i', age.identity, '-o', copy, `${copy}.age`])));
      rmSync(copy);
      rmSync(`${copy}.age`);
    }
  }
  const seconds = Object.fromEntries(Object.entries(times).map(([name, list]) => [name, median(list)]));
  const of = (name: string) => seconds[name] ?? Number.NaN;
  const operation = (name: string, limits: string[], ageName: string) => ({
    ratio: limits.length > 0 ? of(name) / Math.max(...limits.map(of)) : null,
    cpuSecondsPerGib: (median(cpu[name] ?? []) * 1024) / mib,
    ...(age ? { toAge: of(name) / of(ageName) } : {}),
  });
  return {
    mib,
    rounds,
    seconds,
    operations: {
      seal: operation('seal', ['crypto', 'dd synced'], 'age encrypt'),
      'seal, remembered': operation('seal, remembered', ['encryption', 'dd synced'], 'age encrypt'),
      unseal: operation('unseal', ['crypto', 'dd'], 'age decrypt'),
      // One thread: no limit of two applies.
      open: operation('open', [], 'age decrypt'),
    },
    rssMib,
    age: age !== null,
    times,
  };
}

function print(report: Awaited<ReturnType<typeof compare>>): void {
  const lines = Object.entries(report.seconds).map(
    ([name, s]) =>
      `  ${name.padEnd(24)} ${s.toFixed(2)} s   (${report.times[name]?.map((t) => t.toFixed(2)).join(' ')})`,
  );
  for (const [name, { ratio, cpuSecondsPerGib, toAge }] of Object.entries(report.operations)) {
    const limit = ratio === null ? 'no limit' : `${ratio.toFixed(2)} of the slower limit (bar ${BAR})`;
    const beside = toAge === undefined ? '' : `; ${toAge.toFixed(2)} of age`;
    lines.push(`${name}: ${limit}; ${cpuSecondsPerGib.toFixed(2)} CPU seconds per GiB${beside}`);
  }
  lines.push(
    `peak resident memory ${report.rssMib.toFixed(0)} MiB (bar 256)${report.age ? '' : '; age is not installed'}`,
  );
  process.stdout.write(`${report.mib} MiB, medians of ${report.rounds} rounds\n${lines.join('\n')}\n`);
}

function writeRandom(path: string, mib: number): void {
  const fd = openSync(path, 'w');
  const block = Buffer.allocUnsafe(MIB);
  for (let i = 0; i < mib; i++) writeSync(fd, randomFillSync(block));
  closeSync(fd);
}

/** age with a fresh key, or null where it is not installed. */
function ageCommand(dir: string) {
  const identity = join(dir, 'age.key');
  try {
    execFileSync('age-keygen', ['-o', identity], { stdio: 'ignore' });
  } catch {
    return null;
  }
  if (!existsSync(identity) || statSync(identity).size === 0) return null;
  const recipient = execFileSync('age-keygen', ['-y', identity], { encoding: 'utf8' }).trim();
  const run = promisify(execFile);
  return Object.assign((args: string[]) => run('age', args), { recipient, identity });
}

import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type PullOptions, pullSealed } from '../../../src/artifact/pull.ts';
import { type PushOptions, pushSealed } from '../../../src/artifact/push.ts';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { encodeStatement } from '../../../src/manifest/statement.ts';
import { encodeHeader, pad } from '../../../src/seal/header.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import { cleanEnv, FAST } from '../oci/images.ts';
import { exampleHeader, newOwner, type Owner, policy, xwing } from '../seal/fixture.ts';

export interface Part {
  id: Buffer;
  /** Stands for ciphertext: nobody opens it here. */
  bytes: Buffer;
}
export const newPart = (length: number): Part => ({ id: randomBytes(16), bytes: randomBytes(length) });

export const owner: Owner = newOwner();
const { header: base } = await exampleHeader(owner, xwing(), xwing(), Buffer.alloc(32, 3));

/** A sealed model as `push` sees it: a signed header, an index, parts. */
export function sealedOf(parts: Part[], index = randomBytes(5000), change: object = {}) {
  const header = encodeHeader(
    {
      ...base,
      parts: parts.map(({ id, bytes }) => ({ id, length: bytes.length })),
      index: { length: index.length, sha256: sha256(index) },
      ...change,
    },
    owner.key,
  );
  return { header, index, bytes: Buffer.concat([header, index, ...parts.map((part) => part.bytes)].map(padded)) };
}

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(pad(bytes.length) - bytes.length)]);

export function write(bytes: Buffer, name = 'a.sealed'): string {
  const path = join(temporaryDirectory(), name);
  writeFileSync(path, bytes);
  return path;
}

export const read = (path: string): Buffer => readFileSync(path);

export const push = (options: Omit<PushOptions, 'sealed'> & { sealed: string | Buffer }) =>
  pushSealed({
    env: cleanEnv(),
    limits: FAST,
    ...options,
    sealed: Buffer.isBuffer(options.sealed) ? write(options.sealed) : options.sealed,
  });

/** To a new file, unless told otherwise. */
export const pull = (options: PullOptions) =>
  pullSealed({ env: cleanEnv(), limits: FAST, out: join(temporaryDirectory(), 'pulled.sealed'), ...options });

export const statement = (change: object = {}): Buffer =>
  encodeStatement({
    subjects: [{ name: 'a.eif', sha256: 'a'.repeat(64), sha384: 'b'.repeat(96) }],
    project: { name: policy.project, version: '1' },
    modelDigest: policy.model,
    owner: hex(owner.publicRaw),
    sourceDateEpoch: 1,
    toolkit: '0.1.0',
    dependencies: [],
    byproducts: [],
    ...change,
  });

/** A directory with a build manifest, perhaps signed; returns the manifest's path. */
export function buildFiles(bytes = statement(), bundle?: string): string {
  const path = write(bytes, 'build.intoto.json');
  if (bundle !== undefined) writeFileSync(join(path, '../build.sigstore.json'), bundle);
  return path;
}

/** Credentials for a host. */
export function login(host: string, { name, password }: { name: string; password: string }): NodeJS.ProcessEnv {
  const env = cleanEnv();
  mkdirSync(join(env.HOME ?? '', '.docker'));
  const auth = Buffer.from(`${name}:${password}`).toString('base64');
  writeFileSync(join(env.HOME ?? '', '.docker/config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
  return env;
}

/** A line to a registry that breaks: connections end, or stall, once the bytes of the allowance have gone one way or the other. */
export async function fragile(host: string, direction: 'up' | 'down') {
  const line = { allowance: Number.POSITIVE_INFINITY, breaks: 0, passed: 0, stalls: false, host: '' };
  const [address = '', port] = host.split(':');
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(port), address);
    const end = () => {
      near.destroy();
      far.destroy();
    };
    const forward = (from: Socket, to: Socket, counts: boolean) => {
      sockets.add(from);
      from.on('error', end).on('close', end);
      from.on('data', (chunk) => {
        if (!counts) return void to.write(chunk);
        line.passed += chunk.length;
        const some = chunk.subarray(0, Math.max(0, line.allowance));
        line.allowance -= chunk.length;
        to.write(some);
        if (line.allowance >= 0) return;
        line.breaks++;
        from.pause();
        if (line.stalls) return;
        line.allowance = Number.POSITIVE_INFINITY;
        // What has been let through arrives.
        setTimeout(end, 20);
      });
    };
    forward(near, far, direction === 'up');
    forward(far, near, direction === 'down');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  line.host = `127.0.0.1:${(server.address() as { port: number }).port}`;
  return line;
}

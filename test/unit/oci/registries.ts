import { spawn, spawnSync } from 'node:child_process';
import { createPrivateKey, createSign, randomUUID, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { haveTool, run } from './images.ts';

export const haveRegistry = ['docker-registry', 'skopeo', 'umoci', 'htpasswd', 'openssl'].every(haveTool);

export interface TestRegistry {
  /** 127.0.0.1:PORT */
  host: string;
  stop(): Promise<void>;
}

export const USER = { name: 'somebody', password: 'pass:word with "signs"' };

/** A directory that outlives one test. */
export const sharedDirectory = (): string => mkdtempSync(join(tmpdir(), 'atoma-tee-registry-'));
export const remove = (dir: string): void => rmSync(dir, { recursive: true, force: true });

/** Debian's docker-registry on a free loopback port. JSON is YAML. */
export async function startRegistry(storage: string, auth?: object): Promise<TestRegistry> {
  const config = join(storage, `${randomUUID()}.yml`);
  const settings = {
    version: '0.1',
    log: { level: 'info' },
    storage: { filesystem: { rootdirectory: join(storage, 'data') }, delete: { enabled: true } },
    http: { addr: '127.0.0.1:0', secret: 'for tests' },
    ...(auth ? { auth } : {}),
  };
  writeFileSync(config, JSON.stringify(settings));
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  let log = '';
  const port = await new Promise<string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => reject(new Error(`docker-registry ended: ${log}`)));
    child.stderr.on('data', (chunk) => {
      log += chunk;
      const [, found] = /listening on 127\.0\.0\.1:(\d+)/.exec(log) ?? [];
      if (found !== undefined) resolve(found);
    });
  });
  return {
    host: `127.0.0.1:${port}`,
    stop: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Its settings for Basic authentication of USER. */
export function passwordAuth(dir: string): object {
  const { stdout } = spawnSync('htpasswd', ['-niB', USER.name], { input: USER.password, encoding: 'utf8' });
  const path = join(dir, 'htpasswd');
  writeFileSync(path, stdout);
  return { htpasswd: { realm: 'tests', path } };
}

export interface TokenServer {
  realm: string;
  /** What was asked, with the Authorization header. */
  asked: { url: URL; authorization: string | undefined; body: string }[];
  auth: object;
  stop(): Promise<void>;
}

/** A server of tokens that docker-registry believes: for USER, for a refresh token, and for nobody for repositories under "open/". */
export async function startTokenServer(dir: string): Promise<TokenServer> {
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  run('openssl', 'req', '-x509', ...curve, '-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=tests');
  const asked: TokenServer['asked'] = [];
  const server = await listen(async (request, response) => {
    const url = new URL(request.url ?? '', 'http://x');
    const body = await textOf(request);
    asked.push({ url, authorization: request.headers.authorization, body });
    const fields = request.method === 'POST' ? new URLSearchParams(body) : url.searchParams;
    const access = fields.getAll('scope').flatMap((scopes) => scopes.split(' ').map(accessOf));
    const isOpen = access.every(({ name, actions }) => name.startsWith('open/') && actions.join() === 'pull');
    const basic = `Basic ${Buffer.from(`${USER.name}:${USER.password}`).toString('base64')}`;
    const known = request.headers.authorization === basic || fields.get('refresh_token') === 'refresh me';
    if (!known && (request.headers.authorization !== undefined || !isOpen)) {
      response.writeHead(401).end('{"errors":[{"code":"UNAUTHORIZED"}]}');
      return;
    }
    const token = jwt(readFileSync(key, 'utf8'), readFileSync(cert), fields.get('service') ?? '', access);
    response.end(JSON.stringify(request.method === 'POST' ? { access_token: token } : { token }));
  });
  const realm = `http://${server.host}/token`;
  const auth = { token: { realm, service: 'tests registry', issuer: 'tests', rootcertbundle: cert } };
  return { realm, asked, auth, stop: server.stop };
}

const accessOf = (scope: string) => {
  const [, name = '', actions = ''] = /^repository:([^:]+):([a-z,]+)$/.exec(scope) ?? [];
  return { type: 'repository', name, actions: actions.split(',') };
};

/** RFC 7519, signed by ES256 (RFC 7518, 3.4), with the claims of Docker's token specification. */
function jwt(key: string, cert: Buffer, audience: string, access: object[]): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const head = { typ: 'JWT', alg: 'ES256', x5c: [new X509Certificate(cert).raw.toString('base64')] };
  const times = { exp: now + 300, nbf: now - 60, iat: now };
  const text = `${part(head)}.${part({ iss: 'tests', sub: '', aud: audience, ...times, jti: randomUUID(), access })}`;
  const signature = createSign('sha256')
    .update(text)
    .sign({ key: createPrivateKey(key), dsaEncoding: 'ieee-p1363' });
  return `${text}.${signature.toString('base64url')}`;
}

export async function textOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

/** A server of our own on a loopback address, for what docker-registry never does. */
export async function listen(
  handle: RequestListener,
  address = '127.0.0.1',
): Promise<TestRegistry & { server: Server }> {
  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  return {
    server,
    host: `${address}:${(server.address() as AddressInfo).port}`,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

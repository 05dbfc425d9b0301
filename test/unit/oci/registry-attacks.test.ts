import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parseReference } from '../../../src/oci/reference.ts';
import { plainHttpAllowed } from '../../../src/oci/registry-security.ts';
import { type OpenableReference, openImage } from '../../../src/oci/source.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import {
  Blobs,
  bytesOf,
  cleanEnv,
  digestOf,
  FAST,
  haveTool,
  layerTar,
  newCache,
  openText,
  refusal,
  run,
  TYPES,
} from './images.ts';
import { listen } from './registries.ts';

type Hook = (request: IncomingMessage, response: ServerResponse, bytes: Buffer | undefined) => boolean | undefined;

/** A registry that holds one image and answers as `hook` has it, where that returns true. */
async function registry(hook: Hook = () => false, tar?: Buffer, change: Parameters<Blobs['image']>[1] = {}) {
  const blobs = new Blobs();
  const content = tar ?? (await layerTar());
  const manifest = blobs.image([content], change);
  const seen: IncomingMessage[] = [];
  const server = await listen((request, response) => {
    seen.push(request);
    const [, kind, name = ''] = /^\/v2\/app\/(manifests|blobs)\/(.+)$/.exec(request.url ?? '') ?? [];
    const bytes = blobs.all.get(name === '1' ? manifest.digest : name);
    if (hook(request, response, bytes)) return;
    if (bytes === undefined) response.writeHead(request.url === '/v2/' ? 200 : 404).end();
    else response.writeHead(200, kind === 'manifests' ? { 'content-type': TYPES.manifest } : {}).end(bytes);
  });
  onTestFinished(server.stop);
  return { ...server, text: `oci:${server.host}/app:1`, blobs, manifest, tar: content, seen };
}

const isLayer = (request: IncomingMessage, tar: Buffer) => request.url?.endsWith(digestOf(tar));
const isManifest = (request: IncomingMessage) => request.url?.includes('/manifests/');

async function layer(text: string, options: Parameters<typeof openText>[1] = {}): Promise<Buffer> {
  const image = await openText(text, options);
  const [first] = image.layers;
  if (first === undefined) throw new Error('no layer');
  return bytesOf(await first.open());
}

/** Credentials for a host. */
function login(host: string): NodeJS.ProcessEnv {
  const env = cleanEnv();
  mkdirSync(join(env.HOME ?? '', '.docker'));
  const auth = Buffer.from('somebody:the secret').toString('base64');
  writeFileSync(join(env.HOME ?? '', '.docker/config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
  return env;
}

const challenge = (response: ServerResponse, header: string) =>
  Boolean(response.writeHead(401, { 'www-authenticate': header }).end());

test('openImage opens it', async () => {
  const { text, manifest } = await registry();
  const options = { platform: 'linux/amd64', cache: await newCache(), offline: false, env: cleanEnv() };
  const image = await openImage(parseReference(text, '/') as OpenableReference, options);
  expect(image.digest).toBe(manifest.digest);
});

describe('a registry with bad days', () => {
  test('429 with Retry-After, 503 and a broken connection are tried again', async () => {
    let times = 0;
    const { text, tar } = await registry((request, response) => {
      if (request.url === '/v2/' || times > 3) return false;
      times++;
      if (times % 3 === 0) return Boolean(request.socket.destroy());
      const headers =
        times === 1 ? { 'retry-after': '0' } : times === 2 ? { 'retry-after': new Date(0).toUTCString() } : {};
      return Boolean(response.writeHead(times % 3 === 1 ? 429 : 503, headers).end());
    });
    expect(await layer(text)).toEqual(tar);
    expect(times).toBe(4);
  });

  test('a pause of hours is not waited for; tries come to an end; what will not change is not tried again', async () => {
    let times = 0;
    let answer: [number, Record<string, string>] = [429, { 'retry-after': '7200' }];
    const { text } = await registry((request, response) => {
      if (!isManifest(request)) return false;
      times++;
      return Boolean(
        response.writeHead(...answer).end('{"errors":[{"code":"TOOMANYREQUESTS","message":"\\u001b[31m"}]}'),
      );
    });
    await refusal(
      openText(text),
      'ERR_OCI_REGISTRY',
      5,
      /answered 429 \(TOOMANYREQUESTS\) and asks for a pause of 7200 seconds/,
    );
    expect(times).toBe(1);
    answer = [500, {}];
    await refusal(openText(text), 'ERR_OCI_REGISTRY', 5, /answered 500/);
    expect(times).toBe(1 + FAST.attempts);
    answer = [418, {}];
    await refusal(openText(text), 'ERR_OCI_REGISTRY', 5, /answered 418/);
    expect(times).toBe(2 + FAST.attempts);
  });

  test.each([
    ['that knows ranges', true],
    ['that does not', false],
  ])('a cut-off blob is taken up where it broke, from a server %s', async (_, ranges) => {
    const tar = await layerTar('x'.repeat(3_000_000));
    const asked: (string | undefined)[] = [];
    const { text, manifest } = await registry((request, response, bytes) => {
      if (!isLayer(request, tar) || bytes === undefined) return false;
      const { range } = request.headers;
      asked.push(range);
      const from = ranges ? Number(/bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0) : 0;
      const rest = bytes.subarray(from);
      const head = {
        'content-length': rest.length,
        ...(from > 0 ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
      };
      response.writeHead(from > 0 ? 206 : 200, head);
      if (asked.length > 2) return Boolean(response.end(rest));
      return response.write(rest.subarray(0, 1_000_000 * asked.length), () => request.socket.destroy()) || true;
    }, tar);
    const cache = await newCache();
    expect(digestOf(await layer(text, { cache }))).toBe(digestOf(tar));
    expect(asked).toHaveLength(3);
    expect(asked[0]).toBeUndefined();
    expect(asked[1]).toMatch(/^bytes=\d+-$/);
    // Whole in the cache too.
    const offline = { cache, offline: true, expect: manifest.digest };
    expect(digestOf(await layer(text, offline))).toBe(digestOf(tar));
  });

  test('a blob that always breaks off is given up, and nothing is left', async () => {
    const tar = await layerTar('x'.repeat(100_000));
    let times = 0;
    const { text } = await registry((request, response, bytes) => {
      if (!isLayer(request, tar) || bytes === undefined) return false;
      times++;
      response.writeHead(200, { 'content-length': bytes.length });
      return response.write(bytes.subarray(0, 1000), () => request.socket.destroy()) || true;
    }, tar);
    const cache = await newCache();
    await refusal(layer(text, { cache }), 'ERR_OCI_REGISTRY', 5, /cannot fetch/);
    expect(times).toBe(FAST.attempts);
    expect(readdirSync(join(cache.dir, 'tmp'))).toEqual([]);
    expect(readdirSync(join(cache.dir, 'archives'))).toHaveLength(2);
  });

  test('a stream that its reader leaves leaves nothing', async () => {
    const tar = await layerTar('x'.repeat(10_000_000));
    const { text } = await registry(undefined, tar);
    const cache = await newCache();
    const image = await openText(text, { cache });
    for await (const _ of (await image.layers[0]?.open()) ?? []) break;
    await expect.poll(() => readdirSync(join(cache.dir, 'tmp'))).toEqual([]);
    expect(readdirSync(join(cache.dir, 'archives'))).toHaveLength(2);
  });

  test('an interrupt ends a download', async () => {
    const tar = await layerTar('x'.repeat(100_000));
    const abort = new AbortController();
    const { text } = await registry((request, response, bytes) => {
      if (!isLayer(request, tar)) return false;
      response.writeHead(200, { 'content-length': bytes?.length });
      return response.write('x', () => abort.abort(new Error('stop'))) || true;
    }, tar);
    const cache = await newCache();
    await expect(layer(text, { cache, signal: abort.signal })).rejects.toThrow('stop');
    expect(readdirSync(join(cache.dir, 'tmp'))).toEqual([]);
  });
});

test('a proxy is used for a registry that the user lists, and never for loopback', async () => {
  const { server, host, manifest, tar, seen } = await registry();
  const through: (string | undefined)[] = [];
  server.on('connect', (request, socket) => {
    // It is no tunnel to anything that speaks TLS: what comes through it is answered in plain HTTP.
    through.push(`CONNECT ${request.url}`);
    socket.on('error', () => {}).resume();
    socket.end('HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n');
  });
  const proxy = await listen((request, response) => {
    through.push(request.url);
    const path = new URL(request.url ?? '').pathname;
    void fetch(`http://${host}${path}`).then(async (answer) => response.end(Buffer.from(await answer.arrayBuffer())));
  });
  onTestFinished(proxy.stop);
  const env = {
    ...cleanEnv(),
    https_proxy: `http://${host}`,
    http_proxy: `http://${proxy.host}`,
    ATOMA_TEE_INSECURE_REGISTRIES: 'lab.example:5000',
  };
  expect(await layer('oci:lab.example:5000/app:1', { env })).toEqual(tar);
  expect(through.slice(0, 2)).toEqual(['CONNECT lab.example:5000', 'http://lab.example:5000/v2/app/manifests/1']);
  through.length = 0;
  expect((await openText(`oci:${host}/app:1`, { env })).digest).toBe(manifest.digest);
  expect(through).toEqual([]);
  expect(seen.length).toBeGreaterThan(0);
});

describe('attacks', () => {
  test('digest mismatch: manifest by digest, header, configuration, layer', async () => {
    let evil: (request: IncomingMessage) => boolean | undefined = () => false;
    const { text, manifest, tar, blobs } = await registry((request, response, bytes) => {
      if (!evil(request) || bytes === undefined) return false;
      const other = Buffer.from(bytes);
      other[other.length - 2] = (other.at(-2) ?? 0) ^ 1;
      return Boolean(response.end(other));
    });
    evil = isManifest;
    await refusal(openText(text, { expect: manifest.digest }), 'ERR_OCI_DIGEST', 3, /manifests/);
    evil = (request) => request.url?.includes('/blobs/') && !isLayer(request, tar);
    await refusal(openText(text), 'ERR_OCI_DIGEST', 3, /blobs/);
    evil = (request) => isLayer(request, tar);
    const cache = await newCache();
    const error = await refusal(layer(text, { cache }), 'ERR_OCI_DIGEST', 3, /layer/);
    expect(error.details?.expected).toBe(digestOf(tar));
    expect(readdirSync(join(cache.dir, 'archives'))).not.toContain(digestOf(tar).replace(':', '-'));
    expect(readdirSync(join(cache.dir, 'tmp'))).toEqual([]);
    const lying = await registry((request, response, bytes) => {
      if (!isManifest(request)) return false;
      return Boolean(response.writeHead(200, { 'docker-content-digest': `sha256:${'0'.repeat(64)}` }).end(bytes));
    });
    await refusal(openText(lying.text), 'ERR_OCI_DIGEST', 3, /expected sha256:000/);
    expect(blobs.all.size).toBe(3);
  });

  test('size lie: a blob that is larger or smaller than declared, with and without a length', async () => {
    for (const by of [-7, 7]) {
      for (const chunked of [false, true]) {
        const tar = await layerTar();
        const change = { layers: (l: { size: number }) => ({ ...l, size: l.size + by }) } as never;
        const { text } = await registry(
          (request, response, bytes) => {
            if (!chunked || !isLayer(request, tar)) return false;
            if (request.headers.range !== undefined) return Boolean(response.writeHead(416).end());
            response.writeHead(200);
            response.write(bytes);
            return Boolean(response.end());
          },
          tar,
          change,
        );
        await refusal(layer(text), 'ERR_OCI_SIZE', 3, /declared/);
      }
    }
  });

  test('manifest bomb: an endless body, a length beyond all measure, a compressed one', async () => {
    let sent = 0;
    const endless = await registry((request, response) => {
      if (!isManifest(request)) return false;
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, ' '))) sent += 65_536;
      };
      response.on('drain', more);
      return Boolean(more()) || true;
    });
    await refusal(openText(endless.text), 'ERR_OCI_TOO_LARGE', 2, /at most 4194304/);
    expect(sent).toBeLessThan(64 << 20);
    const huge = await registry((request, response) => {
      if (!isManifest(request)) return false;
      return response.writeHead(200, { 'content-length': String(1e12) }).write('{') || true;
    });
    await refusal(openText(huge.text), 'ERR_OCI_TOO_LARGE', 2, /at most 4194304/);
    const encoded = await registry((request, response, bytes) => {
      if (!request.url?.includes('/blobs/')) return false;
      return Boolean(response.writeHead(200, { 'content-encoding': 'gzip' }).end(bytes));
    });
    // The bytes are taken as they are: they are what the digest is of.
    expect((await openText(encoded.text)).config.env).toEqual(['A=b']);
    await refusal(layer(encoded.text), 'ERR_OCI_REGISTRY', 5, /encodes/);
  });

  test('an endless layer ends at its size', async () => {
    const tar = await layerTar();
    let sent = 0;
    const { text } = await registry((request, response) => {
      if (!isLayer(request, tar)) return false;
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536))) sent += 65_536;
      };
      response.on('drain', more);
      return Boolean(more()) || true;
    }, tar);
    await refusal(layer(text), 'ERR_OCI_SIZE', 3, /found more/);
    expect(sent).toBeLessThan(64 << 20);
  });

  test('a slow body: silence, and a document that comes byte by byte for ever', async () => {
    const silent = await registry((request, response, bytes) => {
      if (!isManifest(request)) return false;
      return response.writeHead(200, { 'content-length': bytes?.length }).write('{') || true;
    });
    const limits = { ...FAST, idle: 50, attempts: 2 };
    await refusal(openText(silent.text, { limits }), 'ERR_OCI_REGISTRY', 5, /no answer for 0\.05 seconds/);
    const mute = await registry((request) => Boolean(isManifest(request)));
    await refusal(openText(mute.text, { limits }), 'ERR_OCI_REGISTRY', 5, /no answer for 0\.05 seconds/);
    const dribbling = await registry((request, response) => {
      if (!isManifest(request)) return false;
      const timer = setInterval(() => response.write(' '), 5);
      response.on('close', () => clearInterval(timer));
      return response.writeHead(200).write('{') || true;
    });
    await refusal(
      openText(dribbling.text, { limits: { ...FAST, document: 200 } }),
      'ERR_OCI_REGISTRY',
      5,
      /did not come whole in 0\.2 seconds/,
    );
  });

  test('schema 1', async () => {
    const { text } = await registry((request, response) => {
      if (!isManifest(request)) return false;
      const type = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
      return Boolean(response.writeHead(200, { 'content-type': type }).end('{"schemaVersion":1,"fsLayers":[]}'));
    });
    await refusal(openText(text), 'ERR_OCI_UNSUPPORTED', 2, /schema 1/);
  });

  test('a manifest that is called an index, and a web page that is neither', async () => {
    let answer: [string, string | null] = [TYPES.index, null];
    const { text } = await registry((request, response, bytes) => {
      if (!isManifest(request)) return false;
      return Boolean(response.writeHead(200, { 'content-type': answer[0] }).end(answer[1] ?? bytes));
    });
    await refusal(openText(text), 'ERR_OCI_MALFORMED', 2, /is called/);
    answer = ['text/html', '<html>log in</html>'];
    await refusal(openText(text), 'ERR_OCI_MALFORMED', 2, /not JSON/);
  });

  test('a path traversal in the blob digest of a manifest asks the registry for nothing', async () => {
    const change = { layers: (l: object) => ({ ...l, digest: 'sha256:../../../v2/other/blobs/x' }) };
    const { text, seen } = await registry(undefined, undefined, change);
    await refusal(openText(text), 'ERR_OCI_MALFORMED', 2, /not a digest/);
    expect(seen.map(({ url }) => url)).toEqual(['/v2/app/manifests/1']);
  });

  test('a redirect that steals credentials: another host, another port, gets none', async () => {
    const stolen: (string | undefined)[] = [];
    let hop = (_: string): string => '';
    const { text, host, blobs, tar } = await registry(
      (request, response) => {
        if (request.headers.authorization === undefined) return challenge(response, 'Basic realm="x"');
        if (!isLayer(request, tar0)) return false;
        return Boolean(response.writeHead(307, { location: hop(request.url ?? '') }).end());
      },
      await layerTar('redirected'),
    );
    const tar0 = tar;
    const bytes = blobs.all.get(digestOf(tar));
    for (const address of ['127.0.0.1', '127.0.0.2']) {
      const thief = await listen((request, response) => {
        stolen.push(request.headers.authorization ?? request.headers.cookie);
        response.end(bytes);
      }, address);
      onTestFinished(thief.stop);
      hop = (url) => `http://${thief.host}${url}?signature=x`;
      expect(await layer(text, { env: login(host) })).toEqual(tar);
    }
    expect(stolen).toEqual([undefined, undefined]);
    // And one who asks for them is told nothing.
    const asking = await listen((_, response) => void challenge(response, 'Basic realm="give me"'));
    onTestFinished(asking.stop);
    hop = () => `http://${asking.host}/`;
    await refusal(layer(text, { env: login(host) }), 'ERR_OCI_REGISTRY', 5, /to which it redirects, answered 401/);
  });

  test('redirects: without end, to what is no address, to a file, to plain HTTP elsewhere', async () => {
    let location = '';
    const { text } = await registry((request, response) => {
      if (!isManifest(request)) return false;
      return Boolean(response.writeHead(302, { location }).end());
    });
    location = '/v2/app/manifests/1';
    await refusal(openText(text), 'ERR_OCI_REGISTRY', 5, /redirects too often/);
    location = 'http://[';
    await refusal(openText(text), 'ERR_OCI_REGISTRY', 5, /no address/);
    for (location of ['file:///etc/passwd', 'http://192.0.2.1/x', 'http://127.0.0.1.example/x', 'data:,x'])
      await refusal(openText(text), 'ERR_OCI_INSECURE', 3, /expected an https address/);
  });

  test.skipIf(!haveTool('openssl'))('HTTP downgrade: from https nothing leads to http (openssl needed)', async () => {
    const dir = temporaryDirectory();
    const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
    const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    run(
      'openssl',
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '2',
      ...names,
    );
    const { readFileSync } = await import('node:fs');
    const plain = await registry();
    let header: Record<string, string> = {};
    const secure = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
      if (request.url === '/v2/') response.end();
      else response.writeHead('location' in header ? 302 : 401, header).end();
    });
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void secure.close());
    const host = `127.0.0.1:${(secure.address() as AddressInfo).port}`;
    // An untrusted certificate is refused, not answered by plain HTTP.
    await refusal(openText(`oci:${host}/app:1`), 'ERR_OCI_REGISTRY', 5, /SELF_SIGNED/);
    const { getCACertificates, setDefaultCACertificates } = await import('node:tls');
    const before = getCACertificates('default');
    setDefaultCACertificates([...before, readFileSync(cert, 'utf8')]);
    onTestFinished(() => setDefaultCACertificates(before));
    header = { location: `http://${plain.host}/v2/app/manifests/1` };
    await refusal(openText(`oci:${host}/app:1`), 'ERR_OCI_INSECURE', 3, /expected an https address/);
    header = { 'www-authenticate': `Bearer realm="http://${plain.host}/token"` };
    await refusal(
      openText(`oci:${host}/app:1`, { env: login(host) }),
      'ERR_OCI_INSECURE',
      3,
      /expected an https address/,
    );
    expect(plain.seen).toEqual([]);
  });

  test('plain HTTP is for loopback and for what the user lists, exactly', async () => {
    const env = { ATOMA_TEE_INSECURE_REGISTRIES: 'lab.example:5000, other.example' };
    for (const host of [
      'localhost',
      'localhost:5000',
      '127.0.0.1:1',
      '127.9.9.9',
      '[::1]:5000',
      'lab.example:5000',
      'other.example',
    ])
      expect([host, plainHttpAllowed(host, env)]).toEqual([host, true]);
    for (const host of [
      'lab.example',
      'lab.example:5001',
      'x.other.example',
      '127.0.0.1.example',
      'localhost.example',
      '10.0.0.1:5000',
      '[::2]',
    ])
      expect([host, plainHttpAllowed(host, env)]).toEqual([host, false]);
    expect(plainHttpAllowed('lab.example:5000', {})).toBe(false);
  });

  test.each([
    ['to plain HTTP elsewhere', 'Bearer realm="http://192.0.2.1/token"', 'ERR_OCI_INSECURE', 3, /https/],
    ['to a file', 'Bearer realm="file:///etc/passwd"', 'ERR_OCI_INSECURE', 3, /https/],
    ['to nothing', 'Bearer service="x"', 'ERR_OCI_AUTH', 5, /no address/],
    ['by a scheme of its own', 'Negotiate abc==', 'ERR_OCI_AUTH', 5, /not known/],
    ['by no scheme', '', 'ERR_OCI_AUTH', 5, /not known/],
    ['by an endless header', `Bearer realm="${'\\"'.repeat(3000)}`, 'ERR_OCI_AUTH', 5, /no access/],
  ] as const)('a registry that asks for authentication %s', async (_, header, code, exit, why) => {
    const { text, host } = await registry((request, response) => isManifest(request) && challenge(response, header));
    await refusal(openText(text, { env: login(host) }), code, exit, why);
  });

  test('a token server that redirects gets no second visit; a token that is a header is none; an endless one ends', async () => {
    const thief = await registry();
    let answer: (response: ServerResponse) => unknown = () => {};
    const tokens = await listen((_, response) => void answer(response));
    onTestFinished(tokens.stop);
    const { text, host } = await registry(
      (request, response) =>
        isManifest(request) && challenge(response, `Bearer realm="http://${tokens.host}/",service="s"`),
    );
    const open = () => openText(text, { env: login(host) });
    answer = (response) => response.writeHead(307, { location: `http://${thief.host}/` }).end();
    await refusal(open(), 'ERR_OCI_AUTH', 5, /gave no token: .* answered 307/);
    expect(thief.seen).toEqual([]);
    answer = (response) => response.end(JSON.stringify({ token: 'a\r\nX-Evil: 1' }));
    await refusal(open(), 'ERR_OCI_AUTH', 5, /a token that cannot be one/);
    answer = (response) => response.end(JSON.stringify({}));
    await refusal(open(), 'ERR_OCI_AUTH', 5, /a token that cannot be one/);
    answer = (response) => response.end(Buffer.alloc(2 << 20, ' '));
    await refusal(open(), 'ERR_OCI_TOO_LARGE', 2, /token/);
  });

  test('credentials go to the registry that they are for, not to its neighbour', async () => {
    const one = await registry((request, response) => isManifest(request) && challenge(response, 'Basic realm="x"'));
    const other = await registry((request, response) => isManifest(request) && challenge(response, 'Basic realm="x"'));
    await refusal(openText(other.text, { env: login(one.host) }), 'ERR_OCI_AUTH', 5, /none is known/);
    expect(other.seen.every(({ headers }) => headers.authorization === undefined)).toBe(true);
  });
});

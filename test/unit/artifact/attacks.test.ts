import { existsSync, readdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { floeLength } from '../../../src/seal/floe.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import { digestOf, FAST, refusal, TYPES } from '../oci/images.ts';
import { listen } from '../oci/registries.ts';
import { newOwner } from '../seal/fixture.ts';
import {
  buildFiles,
  fragile,
  login,
  newPart,
  owner,
  type Part,
  pull,
  push,
  read,
  sealedOf,
  statement,
} from './fixture.ts';
import { modelRegistry } from './model-registry.ts';

const MIB = 1 << 20;
const SHORT = floeLength(1);
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const LIST = 'application/vnd.oci.image.index.v1+json';

type Registry = Awaited<ReturnType<typeof modelRegistry>>;

interface Stock {
  registry: Registry;
  sealed: ReturnType<typeof sealedOf>;
  parts: [Part, Part, Part];
  /** Of the parts. */
  digests: [string, string, string];
  pushed: Awaited<ReturnType<typeof push>>;
}

/** A registry with a sealed model of three parts; it lies from then on. */
async function stocked(
  hook: (request: IncomingMessage, response: ServerResponse, stock: Stock) => unknown = () => false,
): Promise<Stock> {
  let stock: Stock | null = null;
  const registry = await modelRegistry((request, response) => stock !== null && hook(request, response, stock));
  const parts: Stock['parts'] = [newPart(MIB), newPart(MIB), newPart(SHORT + 9)];
  const sealed = sealedOf(parts);
  const pushed = await push({ sealed: sealed.bytes, reference: registry.reference });
  const digests = parts.map(({ bytes }) => digestOf(bytes)) as Stock['digests'];
  stock = { registry, sealed, parts, digests, pushed };
  return stock;
}

/** Gives the tag another manifest. */
function forge({ manifests }: Registry, change: (manifest: any) => unknown, type = MANIFEST): void {
  const manifest = JSON.parse(String(manifests.get('1')?.bytes));
  manifests.set('1', { bytes: Buffer.from(JSON.stringify(change(manifest) ?? manifest)), type });
}

/** Pulls to a new place, and expects nothing there afterwards. */
async function refused(reference: string, code: string, exit: number, text: RegExp, options = {}) {
  const out = join(temporaryDirectory(), 'x.sealed');
  const error = await refusal(pull({ reference, out, ...options }), code, exit, text);
  expect(existsSync(out)).toBe(false);
  if (exit === 3) expect(readdirSync(dirname(out))).toEqual([]);
  return error;
}

const endless = (response: ServerResponse, count: (bytes: number) => void) => {
  const block = Buffer.alloc(65_536, 7);
  const more = () => {
    while (!response.destroyed && response.write(block)) count(block.length);
  };
  response.on('drain', more);
  more();
  return true;
};

describe('a registry of the whole specification', () => {
  test('a push whose connection breaks in the middle of a request goes on at the byte that the registry has', async () => {
    const registry = await modelRegistry();
    const sealed = sealedOf([newPart(5 * MIB)]);
    const line = await fragile(registry.host, 'up');
    line.allowance = 2.5 * MIB;
    await push({ sealed: sealed.bytes, reference: `${line.host}/m:1`, chunk: 4 * MIB });
    expect(line.breaks).toBe(1);
    const ranges = registry.seen.flatMap(({ headers }) => headers['content-range'] ?? []);
    expect(ranges.some((range) => !/^(0|4194304)-/.test(range))).toBe(true);
    expect(line.passed).toBeLessThan(sealed.bytes.length + 1.5 * MIB);
    const pulled = await pull({ reference: registry.reference });
    expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(sealed.bytes));
  });

  test('lists the build manifest by itself; no tag is made for it', async () => {
    const registry = await modelRegistry();
    const sealed = sealedOf([newPart(SHORT)]);
    await push({ sealed: sealed.bytes, reference: registry.reference, manifest: buildFiles() });
    expect([...registry.manifests.keys()].filter((name) => !name.startsWith('sha256:'))).toEqual(['1']);
    const manifest = join(temporaryDirectory(), 'b.json');
    const pulled = await pull({ reference: registry.reference, manifest });
    expect(pulled.manifest).toMatchObject({ signature: null, verified: false });
    expect(read(manifest)).toEqual(statement());
  });

  test('errors on the way are tried again, and come to an end', async () => {
    let left = 3;
    const registry = await modelRegistry((request, response) => {
      if (request.method !== 'PATCH' || left-- <= 0) return false;
      request.resume();
      return response.writeHead(503).end();
    });
    const sealed = sealedOf([newPart(MIB)]).bytes;
    await push({ sealed, reference: registry.reference });
    left = Number.POSITIVE_INFINITY;
    const other = sealedOf([newPart(MIB)]).bytes;
    await refusal(
      push({ sealed: other, reference: `${registry.host}/m:2` }),
      'ERR_OCI_REGISTRY',
      5,
      /cannot push to .*503/,
    );
    expect(registry.manifests.has('2')).toBe(false);
  });
});

describe('attacks on whoever pushes', () => {
  test('an upload address on another host gets no credentials, nor does one that asks for them; plain HTTP elsewhere gets nothing', async () => {
    const stolen: (string | undefined)[] = [];
    let ask = false;
    const thief = await listen((request, response) => {
      stolen.push(request.headers.authorization);
      request.resume();
      const headers: Record<string, string> = ask
        ? { 'www-authenticate': 'Basic realm="x"' }
        : { location: '/v2/m/blobs/uploads/1' };
      request.on('end', () => response.writeHead(ask ? 401 : request.method === 'PUT' ? 201 : 202, headers).end());
    });
    onTestFinished(thief.stop);
    let location = `http://${thief.host}/store?signature=x`;
    const registry = await modelRegistry((request, response) => {
      if (request.headers.authorization === undefined)
        return response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      return request.method === 'POST' && response.writeHead(202, { location }).end();
    });
    const env = login(registry.host, { name: 'somebody', password: 'the secret' });
    const attempt = () => push({ sealed: sealedOf([newPart(MIB)]).bytes, reference: registry.reference, env });
    // Blobs of which the thief says that he has them: the registry lacks them, and here takes the list all the same.
    await attempt();
    ask = true;
    await refusal(attempt(), 'ERR_OCI_REGISTRY', 5, /answered 401/);
    expect(stolen.length).toBeGreaterThan(2);
    expect(stolen.every((value) => value === undefined)).toBe(true);
    for (location of ['http://192.0.2.1/x', 'file:///etc/passwd'])
      await refusal(attempt(), 'ERR_OCI_INSECURE', 3, /expected an https address/);
    location = 'http://[';
    await refusal(attempt(), 'ERR_OCI_REGISTRY', 5, /no address/);
  });

  test('a registry that reports offsets beyond what was sent, or stores another manifest than it got', async () => {
    let range: string | null = '0-999999999';
    const registry = await modelRegistry((request, response) => {
      if (request.method === 'PATCH' && range !== null) {
        request
          .resume()
          .on('end', () => response.writeHead(202, { location: '/v2/m/blobs/uploads/x', range: range ?? '' }).end());
        return true;
      }
      if (request.method !== 'PUT' || !request.url?.includes('/manifests/')) return false;
      request
        .resume()
        .on('end', () => response.writeHead(201, { 'docker-content-digest': digestOf(Buffer.from('x')) }).end());
      return true;
    });
    const attempt = () => push({ sealed: sealedOf([newPart(MIB)]).bytes, reference: registry.reference });
    await refusal(attempt(), 'ERR_OCI_REGISTRY', 5, /it has 1000000000 bytes/);
    range = null;
    await refusal(attempt(), 'ERR_OCI_DIGEST', 3, /is another than expected/);
  });

  test('a registry that never gets on is given up', async () => {
    let patches = 0;
    const registry = await modelRegistry((request) => {
      if (request.method !== 'PATCH') return false;
      patches++;
      request.socket.destroy();
      return true;
    });
    const attempt = push({ sealed: sealedOf([newPart(MIB)]).bytes, reference: registry.reference });
    await refusal(attempt, 'ERR_OCI_REGISTRY', 5, /cannot push/);
    // Two uploads at once.
    expect(patches).toBeLessThanOrEqual(2 * FAST.attempts);
  });
});

describe('attacks on whoever pulls', () => {
  test('other bytes than the digest: manifest by digest, header, index, part', async () => {
    let evil = '';
    const { registry, pushed, sealed, digests } = await stocked((request, response, { registry }) => {
      const [, kind = '', name = ''] = /\/(blobs|manifests)\/(sha256:\w+)$/.exec(request.url ?? '') ?? [];
      const bytes = kind === 'blobs' ? registry.blobs.get(name) : undefined;
      if (request.method !== 'GET' || evil === '' || name !== evil) return false;
      const other = Buffer.from(bytes ?? registry.manifests.get(name)?.bytes ?? '');
      other[other.length - 3] = (other.at(-3) ?? 0) ^ 1;
      return response.writeHead(200, kind === 'blobs' ? {} : { 'content-type': MANIFEST }).end(other);
    });
    for (const name of [digestOf(sealed.header), digestOf(sealed.index), digests[1], digests[2]]) {
      evil = name;
      await refused(registry.reference, 'ERR_OCI_DIGEST', 3, /is another than expected/);
    }
    evil = pushed.digest;
    await refused(`${registry.host}/m@${pushed.digest}`, 'ERR_OCI_DIGEST', 3, /is another than expected/);
  });

  test('a wrong size, an endless body, a body that ends early, an encoded one', async () => {
    let answer: (response: ServerResponse, bytes: Buffer) => unknown = () => false;
    const { registry } = await stocked((request, response, { parts, digests }) =>
      request.method === 'GET' && request.url?.endsWith(digests[0]) ? answer(response, parts[0].bytes) : false,
    );
    answer = (response, bytes) => response.writeHead(200, { 'content-length': bytes.length + 1 }).write(bytes) || true;
    await refused(registry.reference, 'ERR_OCI_SIZE', 3, /another size/);
    let sent = 0;
    answer = (response) => endless(response, (count) => (sent += count));
    await refused(registry.reference, 'ERR_OCI_SIZE', 3, /found more/);
    expect(sent).toBeLessThan(64 * MIB);
    answer = (response, bytes) => response.writeHead(200).end(bytes.subarray(1), () => {});
    await refused(registry.reference, 'ERR_OCI_SIZE', 3, /another size/);
    answer = (response, bytes) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(bytes);
    await refused(registry.reference, 'ERR_OCI_REGISTRY', 5, /encodes/);
  });

  test('manifest bomb: an endless list, a length beyond all measure, more layers than there can be', async () => {
    let sent = 0;
    let bomb = (response: ServerResponse): unknown => endless(response, (count) => (sent += count));
    const { registry } = await stocked((request, response) =>
      request.method === 'GET' && request.url?.includes('/manifests/') ? bomb(response) : false,
    );
    await refused(registry.reference, 'ERR_OCI_TOO_LARGE', 2, /at most 4194304/);
    expect(sent).toBeLessThan(64 * MIB);
    bomb = (response) => response.writeHead(200, { 'content-length': 1e12 }).write('{') || true;
    await refused(registry.reference, 'ERR_OCI_TOO_LARGE', 2, /at most 4194304/);
    bomb = (response) => response.writeHead(200, { 'content-type': MANIFEST }).end('[['.repeat(1 << 20));
    await refused(registry.reference, 'ERR_OCI_MALFORMED', 2, /not JSON/);
    bomb = () => false;
    forge(registry, ({ layers, ...rest }) => ({ ...rest, layers: new Array(12_000).fill(layers[1]) }));
    await refused(registry.reference, 'ERR_ARTIFACT_LAYERS', 3, /expected 4 layers, found 12000/);
  });

  test.each([
    ['missing', (layers: any[]) => layers.slice(0, -1), /4 layers, found 3/],
    ['extra', (layers: any[]) => [...layers, layers[3]], /4 layers, found 5/],
    ['reordered', ([i, a, b, c]: any[]) => [i, a, c, b], /part 2 of/],
    ['of another size', ([i, a, ...rest]: any[]) => [i, { ...a, size: 77 }, ...rest], /part 1 of/],
    ['of another kind', ([i, a, ...rest]: any[]) => [i, { ...a, mediaType: TYPES.layer }, ...rest], /part 1 as/],
    ['with another index', ([i, ...rest]: any[]) => [{ ...i, digest: rest[0].digest }, ...rest], /the index sha256/],
  ])('parts %s', async (_, change, text) => {
    const { registry } = await stocked();
    forge(registry, (manifest) => ({ ...manifest, layers: change(manifest.layers) }));
    await refused(registry.reference, 'ERR_ARTIFACT_LAYERS', 3, text);
  });

  test('parts of the same size in another order are found where a digest was named, and otherwise when they are opened', async () => {
    const { registry, pushed, sealed, parts } = await stocked();
    forge(registry, ({ layers: [i, a, b, c], ...rest }) => ({ ...rest, layers: [i, b, a, c] }));
    const pulled = await pull({ reference: registry.reference });
    const [a, b, c] = parts;
    const swapped = sealedOf([b, a, c], sealed.index).bytes.subarray(sealed.bytes.length - 2 * MIB);
    expect(digestOf(read(pulled.path ?? '').subarray(-swapped.length))).toBe(digestOf(swapped));
    expect(pulled.digest).not.toBe(pushed.digest);
    registry.manifests.set(pushed.digest, registry.manifests.get('1') ?? { bytes: Buffer.alloc(0), type: '' });
    await refused(`${registry.host}/m@${pushed.digest}`, 'ERR_OCI_DIGEST', 3, /is another than expected/);
  });

  test('a header that another owner signed, that was changed, or that is longer than itself', async () => {
    const { registry, sealed } = await stocked();
    await refused(registry.reference, 'ERR_SEAL_OWNER', 3, /another owner/, { owner: newOwner().publicRaw });
    const replace = (header: Buffer) => {
      registry.blobs.set(digestOf(header), header);
      forge(registry, (m) => ({ ...m, config: { ...m.config, digest: digestOf(header), size: header.length } }));
    };
    const changed = Buffer.from(sealed.header);
    changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
    replace(changed);
    await refused(registry.reference, 'ERR_SEAL_SIGNATURE', 3, /signature/, { owner: owner.publicRaw });
    replace(sealed.bytes.subarray(0, 4096 * Math.ceil(sealed.header.length / 4096)));
    await refused(registry.reference, 'ERR_SEAL_TRAILING', 2, /found/);
    replace(Buffer.concat([sealed.header, Buffer.alloc(2 * MIB)]));
    await refused(registry.reference, 'ERR_OCI_TOO_LARGE', 2, /header/);
  });

  test('a path traversal in a digest asks the registry for nothing', async () => {
    const { registry } = await stocked();
    for (const digest of ['sha256:../../../v2/other/blobs/x', '../../x', `sha256:${'A'.repeat(64)}`]) {
      for (const change of [
        (m: any) => ({ ...m, config: { ...m.config, digest } }),
        (m: any) => ({ ...m, layers: m.layers.map((layer: object) => ({ ...layer, digest })) }),
      ]) {
        const before = registry.manifests.get('1');
        forge(registry, change);
        registry.seen.length = 0;
        await refused(registry.reference, 'ERR_OCI_MALFORMED', 2, /not a digest/);
        expect(registry.seen.map(({ url }) => url).filter((url) => url !== '/v2/')).toEqual(['/v2/m/manifests/1']);
        registry.manifests.set('1', before ?? { bytes: Buffer.alloc(0), type: '' });
      }
    }
  });

  test('what is no sealed model: an image, a list, what is called otherwise than it is, a web page', async () => {
    const { registry } = await stocked();
    const good = String(registry.manifests.get('1')?.bytes);
    const cases: [string, string, string, RegExp][] = [
      [
        good.replace('vnd.atoma.seal.v1', 'vnd.other'),
        MANIFEST,
        'ERR_ARTIFACT_KIND',
        /expected application\/vnd\.atoma\.seal\.v1/,
      ],
      [good.replace('seal.header.v1', 'other'), MANIFEST, 'ERR_ARTIFACT_KIND', /not a sealed model/],
      [
        good.replace('"artifactType":"application/vnd.atoma.seal.v1",', ''),
        MANIFEST,
        'ERR_ARTIFACT_KIND',
        /seal\.header/,
      ],
      [good, LIST, 'ERR_ARTIFACT_KIND', /image\.index/],
      [good.replace('{"schema', '{"manifests":[],"schema'), MANIFEST, 'ERR_OCI_MALFORMED', /manifests/],
      ['{"schemaVersion":2,"manifests":[]}', LIST, 'ERR_ARTIFACT_KIND', /image\.index/],
      ['<html>log in</html>', 'text/html', 'ERR_OCI_MALFORMED', /not JSON/],
    ];
    for (const [text, type, code, why] of cases) {
      registry.manifests.set('1', { bytes: Buffer.from(text), type });
      await refused(registry.reference, code, 2, why);
    }
  });

  test('a redirect that steals credentials gets none', async () => {
    const stolen: (string | undefined)[] = [];
    const { registry, digests, sealed } = await stocked((request, response) => {
      if (request.headers.authorization === undefined)
        return response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      if (!request.url?.endsWith(digests[0])) return false;
      return response.writeHead(307, { location: `http://${thief.host}/x` }).end();
    });
    const thief = await listen((request, response) => {
      stolen.push(request.headers.authorization);
      response.end(registry.blobs.get(digests[0]));
    });
    onTestFinished(thief.stop);
    const env = login(registry.host, { name: 'somebody', password: 'the secret' });
    const pulled = await pull({ reference: registry.reference, env });
    expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(sealed.bytes));
    expect(stolen).toEqual([undefined]);
  });

  test('referrers that lie: about another subject, of another model, not there, endless, a web page', async () => {
    let answer: ((response: ServerResponse) => unknown) | null = null;
    const { registry, pushed } = await stocked((request, response) =>
      request.url?.includes('/referrers/') && answer !== null ? answer(response) : false,
    );
    const manifest = join(temporaryDirectory(), 'b.json');
    const attempt = () => pull({ reference: registry.reference, out: undefined, manifest });
    const list =
      (entries: object[], headers = {}) =>
      (response: ServerResponse) =>
        response
          .writeHead(200, { 'content-type': LIST, ...headers })
          .end(JSON.stringify({ schemaVersion: 2, manifests: entries }));
    const entry = (bytes: Buffer) => {
      registry.manifests.set(digestOf(bytes), { bytes, type: MANIFEST });
      return {
        mediaType: MANIFEST,
        digest: digestOf(bytes),
        size: bytes.length,
        artifactType: 'application/vnd.atoma.build.v1',
      };
    };
    const build = (text: Buffer, subject = pushed.digest) => {
      registry.blobs.set(digestOf(text), text);
      const empty = Buffer.from('{}');
      return Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: MANIFEST,
          artifactType: 'application/vnd.atoma.build.v1',
          config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(empty), size: 2 },
          layers: [{ mediaType: 'application/vnd.in-toto+json', digest: digestOf(text), size: text.length }],
          subject: { mediaType: MANIFEST, digest: subject, size: 1 },
        }),
      );
    };
    answer = list([entry(build(statement(), digestOf(Buffer.from('x'))))]);
    await refusal(attempt(), 'ERR_ARTIFACT_KIND', 2, /refers to/);
    answer = list([entry(build(statement({ owner: 'ee'.repeat(32) })))]);
    await refusal(attempt(), 'ERR_ARTIFACT_UNRELATED', 3, /another owner/);
    answer = list([{ ...entry(build(statement())), digest: digestOf(Buffer.from('gone')) }]);
    await refusal(attempt(), 'ERR_ARTIFACT_NO_MANIFEST', 2, /does not have it/);
    answer = list([{ ...entry(build(statement())), digest: 'sha256:../x' }]);
    await refusal(attempt(), 'ERR_OCI_MALFORMED', 2, /not a digest/);
    answer = list([], { link: '<http://192.0.2.1/next?last=1>; rel="next"' });
    registry.seen.length = 0;
    await refusal(attempt(), 'ERR_OCI_TOO_LARGE', 2, /more than 16 pages/);
    expect(registry.seen.filter(({ url }) => url.includes('/referrers/'))).toHaveLength(16);
    answer = (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>');
    await refusal(attempt(), 'ERR_ARTIFACT_NO_MANIFEST', 2, /no build manifest/);
    expect(existsSync(manifest)).toBe(false);
    answer = list([entry(build(statement()))]);
    expect((await attempt()).manifest?.path).toBe(manifest);
  });

  test('what stands where the file belongs is not written through: a link, a directory', async () => {
    const { registry } = await stocked();
    const dir = temporaryDirectory();
    await refusal(pull({ reference: registry.reference, out: dir }), 'ERR_OUTPUT_KIND', 2, /a directory/);
    const { symlinkSync, writeFileSync, readFileSync } = await import('node:fs');
    const victim = join(dir, 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, join(dir, 'x.sealed.pull.partial'));
    await pull({ reference: registry.reference, out: join(dir, 'x.sealed') });
    expect(readFileSync(victim, 'utf8')).toBe('precious');
    expect(readdirSync(dir).sort()).toEqual(['victim', 'x.sealed']);
  });
});

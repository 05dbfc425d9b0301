import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { onTestFinished } from 'vitest';
import { digestOf } from '../oci/images.ts';
import { listen } from '../oci/registries.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => unknown;

/**
 * A registry of the whole specification 1.1, in memory: with resumable uploads and the referrers API, which docker-registry 2.8 has
 * not; and one that lies, where `hook` returns true.
 */
export async function modelRegistry(hook: Answer = () => false) {
  const blobs = new Map<string, Buffer>();
  const manifests = new Map<string, { bytes: Buffer; type: string }>();
  const uploads = new Map<string, Buffer>();
  const seen: { method: string; url: string; headers: IncomingMessage['headers'] }[] = [];
  const origin = () => `http://${server.host}`;

  const handlers: [string, RegExp, (request: IncomingMessage, response: ServerResponse, name: string) => unknown][] = [
    ['GET', /^\/v2\/$/, (_, response) => response.end()],
    ['HEAD', /\/blobs\/(sha256:\w+)$/, (_, response, name) => send(response, blobs.get(name), {}, false)],
    ['GET', /\/blobs\/(sha256:\w+)$/, (request, response, name) => ranged(request, response, blobs.get(name))],
    ['POST', /\/blobs\/uploads\/(?:\?.*)?$/, (_, response) => status(response, 202, begin())],
    ['PATCH', /\/blobs\/uploads\/([\w-]+)/, patch],
    ['GET', /\/blobs\/uploads\/([\w-]+)/, (_, response, id) => status(response, uploads.has(id) ? 204 : 404, id)],
    ['PUT', /\/blobs\/uploads\/([\w-]+)/, finish],
    ['GET', /\/manifests\/([\w:.-]+)$/, (_, response, name) => getManifest(response, name)],
    ['PUT', /\/manifests\/([\w:.-]+)$/, putManifest],
    ['GET', /\/referrers\/(sha256:\w+)/, (_, response, name) => referrers(response, name)],
  ];

  const begin = () => {
    const id = randomUUID();
    uploads.set(id, Buffer.alloc(0));
    return id;
  };
  function status(response: ServerResponse, code: number, id: string) {
    const size = uploads.get(id)?.length ?? 0;
    response
      .writeHead(code, { location: `/v2/m/blobs/uploads/${id}?n=${size}`, range: `0-${Math.max(0, size - 1)}` })
      .end();
  }
  function send(response: ServerResponse, bytes: Buffer | undefined, headers: object, body = true) {
    if (bytes === undefined) return response.writeHead(404).end();
    return response.writeHead(200, { 'content-length': bytes.length, ...headers }).end(body ? bytes : undefined);
  }
  function ranged(request: IncomingMessage, response: ServerResponse, bytes: Buffer | undefined) {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (bytes === undefined || from === 0) return send(response, bytes, {});
    const range = `bytes ${from}-${bytes.length - 1}/${bytes.length}`;
    return response.writeHead(206, { 'content-range': range }).end(bytes.subarray(from));
  }
  async function patch(request: IncomingMessage, response: ServerResponse, id: string) {
    const had = uploads.get(id);
    if (had === undefined) return response.writeHead(404).end();
    if (Number(request.headers['content-range']?.split('-')[0]) !== had.length) return status(response, 416, id);
    // What came of a request that broke off stays.
    const chunks = [had];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } finally {
      uploads.set(id, Buffer.concat(chunks));
    }
    return status(response, 202, id);
  }
  async function finish(request: IncomingMessage, response: ServerResponse, id: string) {
    const digest = new URL(request.url ?? '', 'http://x').searchParams.get('digest') ?? '';
    const bytes = uploads.get(id);
    if (bytes === undefined || digestOf(bytes) !== digest)
      return response.writeHead(400).end('{"errors":[{"code":"DIGEST_INVALID"}]}');
    blobs.set(digest, bytes);
    uploads.delete(id);
    return response.writeHead(201, { location: `/v2/m/blobs/${digest}` }).end();
  }
  function getManifest(response: ServerResponse, name: string) {
    const found = manifests.get(name);
    return send(response, found?.bytes, { 'content-type': found?.type });
  }
  async function putManifest(request: IncomingMessage, response: ServerResponse, name: string) {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const entry = { bytes: Buffer.concat(chunks), type: request.headers['content-type'] ?? '' };
    manifests.set(name, entry).set(digestOf(entry.bytes), entry);
    const { subject } = JSON.parse(entry.bytes.toString());
    response.writeHead(201, subject ? { 'oci-subject': subject.digest } : {}).end();
  }
  function referrers(response: ServerResponse, name: string) {
    const found = [...manifests].flatMap(([digest, { bytes, type }]) => {
      const { subject, artifactType } = JSON.parse(bytes.toString());
      if (subject?.digest !== name || !digest.startsWith('sha256:')) return [];
      return [{ mediaType: type, digest, size: bytes.length, artifactType }];
    });
    const list = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: found }));
    send(response, list, { 'content-type': 'application/vnd.oci.image.index.v1+json' });
  }

  const server = await listen((request, response) => {
    const { method = '', url = '', headers } = request;
    seen.push({ method, url, headers });
    if (hook(request, response)) return;
    for (const [verb, pattern, handle] of handlers) {
      const [match, name = ''] = pattern.exec(url.replace(/\?.*$/, (query) => (verb === 'POST' ? query : ''))) ?? [];
      if (verb !== method || match === undefined) continue;
      Promise.resolve(handle(request, response, name)).catch(() => response.destroy());
      return;
    }
    response.writeHead(404).end();
  });
  onTestFinished(server.stop);
  return { host: server.host, origin, reference: `${server.host}/m:1`, blobs, manifests, uploads, seen };
}

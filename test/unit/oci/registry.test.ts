import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cache } from '../../../src/image/cache.ts';
import type { OpenedImage } from '../../../src/oci/source.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import {
  Blobs,
  bytesOf,
  cleanEnv,
  digestOf,
  layerTar,
  newCache,
  on,
  openText,
  refusal,
  skopeo,
  TYPES,
  umociImage,
} from './images.ts';
import {
  haveRegistry,
  passwordAuth,
  remove,
  sharedDirectory,
  startRegistry,
  startTokenServer,
  type TestRegistry,
  type TokenServer,
  USER,
} from './registries.ts';

/** The whole image, layers compared with their digests. */
async function layersOf(image: OpenedImage): Promise<string[]> {
  const streams = await Promise.all(image.layers.map((layer) => layer.open()));
  return (await Promise.all(streams.map(bytesOf))).map(digestOf);
}

const login = (host: string, entry: object): NodeJS.ProcessEnv => {
  const env = cleanEnv();
  const dir = join(env.HOME ?? '', '.docker');
  mkdirSync(dir);
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ auths: { [host]: entry } }));
  return env;
};
const password = ({ name, password } = USER) => ({ auth: Buffer.from(`${name}:${password}`).toString('base64') });

describe.skipIf(!haveRegistry)("Debian's docker-registry (it, skopeo, umoci, htpasswd and openssl needed)", () => {
  const dir = sharedDirectory();
  let registry: TestRegistry;
  let made: string;

  beforeAll(async () => {
    registry = await startRegistry(dir);
    made = umociImage(dir);
    const push = (from: string, to: string, ...args: string[]) =>
      skopeo('copy', '-q', '--dest-tls-verify=false', ...args, from, `docker://${registry.host}/${to}`);
    push(`oci:${made}`, 'team/app:1');
    push(`oci:${made}`, 'open/app:1');
    push(`oci:${made}`, 'docker/app:1', '--format', 'v2s2');
    const blobs = new Blobs();
    const images = [
      on(blobs.image([await layerTar('arm')], { config: { architecture: 'arm64' } }), 'linux', 'arm64'),
      on(blobs.image([await layerTar('amd')], { compression: 'zstd' }), 'linux', 'amd64'),
    ];
    const index = blobs.add(TYPES.index, blobs.index(images, { mediaType: TYPES.index }));
    push(`oci:${blobs.write(join(dir, 'multi'), blobs.index([index]))}`, 'multi/app:1', '--all');
    push(`oci:${join(dir, 'multi')}`, 'arm/app:1', '--override-arch', 'arm64');
  });
  afterAll(async () => {
    await registry?.stop();
    remove(dir);
  });

  test('an image by its tag; then, from the cache alone, by the digest that a lock pins', async () => {
    const cache = await newCache();
    const own = await startRegistry(dir);
    const text = `oci:${own.host}/team/app:1`;
    const phases = new Set<string>();
    const image = await openText(text, { cache, onProgress: ({ phase }) => phases.add(phase) });
    expect(image.digest).toBe(
      JSON.parse(skopeo('inspect', '--tls-verify=false', `docker://${own.host}/team/app:1`)).Digest,
    );
    expect(image.config).toMatchObject({
      entrypoint: ['/app/hello'],
      cmd: ['--port', '80'],
      env: ['A=b c'],
      user: '7:8',
    });
    expect(await layersOf(image)).toEqual(image.layers.map(({ digest }) => digest));
    expect(phases.size).toBe(2);
    await own.stop();

    const pinned = { cache, offline: true, expect: image.digest };
    const again = await openText(text, pinned);
    expect(await layersOf(again)).toEqual(await layersOf(image));
    expect((await openText(text.replace(/:1$/, `@${image.digest}`), { cache, offline: true })).digest).toBe(
      image.digest,
    );
    expect(readdirSync(join(cache.dir, 'tmp'))).toEqual([]);

    await refusal(openText(text, { cache, offline: true }), 'ERR_OFFLINE_MISSING', 5, /a tag means something only/);
    await refusal(
      openText(text, { offline: true, expect: image.digest }),
      'ERR_OFFLINE_MISSING',
      5,
      /not in the cache/,
    );
    await refusal(openText(text, { expect: image.digest }), 'ERR_OCI_REGISTRY', 5, /ECONNREFUSED/);
  });

  test('a cache that has the documents and not the layers says so; one that is damaged is mended', async () => {
    const cache = await newCache();
    const text = `oci:${registry.host}/team/app:1`;
    const image = await openText(text, { cache });
    const offline = await openText(text, { cache, offline: true, expect: image.digest });
    await refusal(layersOf(offline), 'ERR_OFFLINE_MISSING', 5, /its layer sha256:/);
    await layersOf(image);
    const archives = join(cache.dir, 'archives');
    for (const name of readdirSync(archives)) writeFileSync(join(archives, name), 'damage');
    const again = await openText(text, { cache: await Cache.open(cache.dir), expect: image.digest });
    expect(await layersOf(again)).toEqual(image.layers.map(({ digest }) => digest));
  });

  test("Docker's media types, a list of platforms, zstd", async () => {
    const docker = await openText(`oci:${registry.host}/docker/app:1`);
    expect(docker.config.entrypoint).toEqual(['/app/hello']);
    expect(await layersOf(docker)).toEqual(docker.layers.map(({ digest }) => digest));
    const multi = await openText(`oci:${registry.host}/multi/app:1`);
    expect(multi.layers).toMatchObject([{ compression: 'zstd', diffId: digestOf(await layerTar('amd')) }]);
    expect(await layersOf(multi)).toEqual(multi.layers.map(({ digest }) => digest));
    // The index by its digest leads to the same; the pin is the manifest's.
    const raw = skopeo('inspect', '--raw', '--tls-verify=false', `docker://${registry.host}/multi/app:1`);
    const by = await openText(`oci:${registry.host}/multi/app@${digestOf(Buffer.from(raw))}`, {
      expect: multi.digest,
    });
    expect(by.digest).toBe(multi.digest);
    await refusal(
      openText(`oci:${registry.host}/multi/app:1`, { platform: 'linux/s390x' }),
      'ERR_OCI_PLATFORM',
      2,
      /linux\/arm64, linux\/amd64/,
    );
  });

  test('wrong architecture: a registry that has no linux/amd64', async () => {
    await refusal(
      openText(`oci:${registry.host}/arm/app:1`),
      'ERR_OCI_PLATFORM',
      2,
      /expected an image for linux\/amd64, found linux\/arm64/,
    );
  });

  test('a tag that has moved on is no news to a lock; another digest in the reference than in the lock is', async () => {
    const text = `oci:${registry.host}/moving/app`;
    const [was, now] = [
      await openText(`oci:${registry.host}/team/app:1`),
      await openText(`oci:${registry.host}/multi/app:1`),
    ];
    const push = (from: string) =>
      skopeo(
        'copy',
        '-q',
        '--dest-tls-verify=false',
        '--src-tls-verify=false',
        `docker://${registry.host}/${from}`,
        `docker://${registry.host}/moving/app:x`,
      );
    push('team/app:1');
    push('multi/app:1');
    expect((await openText(`${text}:x`)).digest).toBe(now.digest);
    expect((await openText(`${text}:x`, { expect: was.digest })).digest).toBe(was.digest);
    const error = await refusal(
      openText(`${text}@${was.digest}`, { expect: now.digest }),
      'ERR_OCI_DIGEST',
      3,
      /is another than expected/,
    );
    expect(error.details).toEqual({ expected: now.digest, found: was.digest });
  });

  test('what is not there: a tag, a repository, a pinned manifest', async () => {
    await refusal(openText(`oci:${registry.host}/team/app:2`), 'ERR_OCI_NOT_FOUND', 2, /has no image .*team\/app:2/);
    await refusal(openText(`oci:${registry.host}/none:1`), 'ERR_OCI_NOT_FOUND', 2, /has no image/);
    const gone = `sha256:${'0'.repeat(64)}`;
    await refusal(
      openText(`oci:${registry.host}/team/app:1`, { expect: gone }),
      'ERR_INPUT_GONE',
      5,
      /no longer has sha256:0000/,
    );
  });

  describe('by password (Basic)', () => {
    let closed: TestRegistry;
    beforeAll(async () => {
      closed = await startRegistry(dir, passwordAuth(dir));
    });
    afterAll(() => closed?.stop());

    test('the right one opens, from each place where it can be kept', async () => {
      const text = `oci:${closed.host}/team/app:1`;
      const image = await openText(text, { env: login(closed.host, password()) });
      expect(await layersOf(image)).toEqual(image.layers.map(({ digest }) => digest));
      const containers = cleanEnv();
      const path = join(temporaryDirectory(), 'auth.json');
      writeFileSync(
        path,
        JSON.stringify({
          auths: { [`${closed.host}/team`]: password(), [closed.host]: password({ ...USER, password: 'x' }) },
        }),
      );
      expect((await openText(text, { env: { ...containers, REGISTRY_AUTH_FILE: path } })).digest).toBe(image.digest);
    });

    test('none or a wrong one does not, and no text shows it', async () => {
      const text = `oci:${closed.host}/team/app:1`;
      await refusal(openText(text), 'ERR_OCI_AUTH', 5, /wants a password, and none is known/);
      const wrong = login(closed.host, password({ name: 'somebody', password: 'very secret' }));
      const error = await refusal(openText(text, { env: wrong }), 'ERR_OCI_AUTH', 5, /answered 401 \(UNAUTHORIZED\)/);
      const seen = JSON.stringify(error) + error.stack;
      expect(seen).not.toContain('very secret');
      expect(seen).not.toContain(Buffer.from('somebody:very secret').toString('base64'));
      await refusal(
        openText(text, { env: login(closed.host, { identitytoken: 'x' }) }),
        'ERR_OCI_AUTH',
        5,
        /not a token/,
      );
    });
  });

  describe('by token (Bearer)', () => {
    let tokens: TokenServer;
    let closed: TestRegistry;
    beforeAll(async () => {
      tokens = await startTokenServer(dir);
      closed = await startRegistry(dir, tokens.auth);
    });
    afterAll(async () => {
      await closed?.stop();
      await tokens?.stop();
    });

    test('anonymous, where that is enough: one token for everything', async () => {
      tokens.asked.length = 0;
      const image = await openText(`oci:${closed.host}/open/app:1`);
      expect(await layersOf(image)).toEqual(image.layers.map(({ digest }) => digest));
      expect(tokens.asked).toMatchObject([{ authorization: undefined }]);
      const asked = tokens.asked[0]?.url.searchParams;
      expect([asked?.get('service'), asked?.get('scope')]).toEqual(['tests registry', 'repository:open/app:pull']);
    });

    test('with a password, a refresh token, an access token; and without what it takes', async () => {
      const text = `oci:${closed.host}/team/app:1`;
      const image = await openText(text, { env: login(closed.host, password()) });
      expect(await layersOf(image)).toEqual(image.layers.map(({ digest }) => digest));
      tokens.asked.length = 0;
      expect(
        (await openText(text, { env: login(closed.host, { ...password(), identitytoken: 'refresh me' }) })).digest,
      ).toBe(image.digest);
      expect(tokens.asked).toMatchObject([{ authorization: undefined }]);
      expect(Object.fromEntries(new URLSearchParams(tokens.asked[0]?.body))).toMatchObject({
        grant_type: 'refresh_token',
        service: 'tests registry',
        scope: 'repository:team/app:pull',
      });
      const direct = await fetch(`${tokens.realm}?service=tests+registry&scope=repository:open/app:pull`);
      const { token } = (await direct.json()) as { token: string };
      const open = await openText(`oci:${closed.host}/open/app:1`, {
        env: login(closed.host, { registrytoken: token }),
      });
      expect(open.digest).toBe(image.digest);
      await refusal(openText(text), 'ERR_OCI_AUTH', 5, /gave no token: .* answered 401/);
      await refusal(
        openText(text, { env: login(closed.host, { registrytoken: token }) }),
        'ERR_OCI_AUTH',
        5,
        /answered 401/,
      );
      await refusal(
        openText(text, { env: login(closed.host, { identitytoken: 'x' }) }),
        'ERR_OCI_AUTH',
        5,
        /gave no token/,
      );
    });
  });
});

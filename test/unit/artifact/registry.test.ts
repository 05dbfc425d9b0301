import { existsSync, readdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { floeLength } from '../../../src/seal/floe.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import { digestOf, FAST, refusal, skopeo } from '../oci/images.ts';
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
} from '../oci/registries.ts';
import { buildFiles, fragile, login, newPart, owner, pull, push, read, sealedOf, statement, write } from './fixture.ts';

const MIB = 1 << 20;
/** The least that a part has: FLOE of nothing. */
const SHORT = floeLength(1);

describe.skipIf(!haveRegistry)("Debian's docker-registry (it, skopeo, umoci, htpasswd and openssl needed)", () => {
  const dir = sharedDirectory();
  let registry: TestRegistry;
  beforeAll(async () => {
    registry = await startRegistry(dir);
  });
  afterAll(async () => {
    await registry?.stop();
    remove(dir);
  });
  const at = (name: string) => `${registry.host}/models/${name}`;
  const document = async (path: string, accept = 'application/vnd.oci.image.manifest.v1+json') => {
    const response = await fetch(`http://${registry.host}/v2/models/${path}`, { headers: { accept } });
    return (await response.json()) as any;
  };

  test('a sealed model comes back byte for byte; its digest is a function of the file; the second push moves nothing', async () => {
    const parts = [newPart(3 * MIB + 5), newPart(40 + SHORT), newPart(4096)];
    const sealed = sealedOf(parts);
    const path = write(sealed.bytes);
    const pushed = await push({ sealed: path, reference: at('digits:1') });
    const payload =
      sealed.header.length + sealed.index.length + parts.reduce((sum, part) => sum + part.bytes.length, 0);
    expect(pushed).toMatchObject({ parts: 3, size: sealed.bytes.length, moved: payload, skipped: 0, manifest: null });

    const manifest = await document('digits/manifests/1');
    expect(manifest).toEqual({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      artifactType: 'application/vnd.atoma.seal.v1',
      config: {
        mediaType: 'application/vnd.atoma.seal.header.v1',
        digest: digestOf(sealed.header),
        size: sealed.header.length,
      },
      layers: [sealed.index, ...parts.map((part) => part.bytes)].map((bytes, i) => ({
        mediaType: `application/vnd.atoma.seal.${i === 0 ? 'index' : 'part'}.v1`,
        digest: digestOf(bytes),
        size: bytes.length,
      })),
    });

    const again = await push({ sealed: write(sealed.bytes), reference: at('digits:copy') });
    expect(again).toMatchObject({ digest: pushed.digest, moved: 0, skipped: payload });
    for (const reference of [at('digits:1'), `${at('digits')}@${pushed.digest}`, `oci:${at('digits:copy')}`]) {
      const pulled = await pull({ reference, owner: owner.publicRaw });
      expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(sealed.bytes));
      expect(pulled).toMatchObject({ digest: pushed.digest, moved: payload, ownerChecked: true });
      expect(readdirSync(dirname(pulled.path ?? ''))).toEqual(['pulled.sealed']);
    }
  });

  test('of a new version only what is new is pushed, and pulled', async () => {
    const [shared, old, fresh] = [newPart(2 * MIB), newPart(MIB), newPart(MIB + 9)];
    const [v1, v2] = [sealedOf([shared, old]), sealedOf([shared, fresh])];
    await push({ sealed: v1.bytes, reference: at('versions:1') });
    const pushed = await push({ sealed: v2.bytes, reference: at('versions:2') });
    const news = v2.header.length + v2.index.length + fresh.bytes.length;
    expect(pushed).toMatchObject({ moved: news, skipped: shared.bytes.length });
    const line = await fragile(registry.host, 'down');
    const reuse = write(v1.bytes);
    const pulled = await pull({ reference: `${line.host}/models/versions:2`, reuse });
    expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(v2.bytes));
    expect(pulled).toMatchObject({ moved: news, reused: shared.bytes.length });
    expect(line.passed).toBeLessThan(news + 10_000);

    // To another repository of the registry, its blobs are mounted.
    const mounted = await push({ sealed: v2.bytes, reference: at('elsewhere:1'), from: 'models/versions' });
    expect(mounted).toMatchObject({ moved: 0, mounted: news + shared.bytes.length, digest: pushed.digest });
    const other = await push({ sealed: v2.bytes, reference: at('third:1'), from: 'models/none' });
    expect(other).toMatchObject({ mounted: 0, moved: news + shared.bytes.length });
  });

  test('--reuse of a file that has other bytes under the same part id fetches them', async () => {
    const part = newPart(MIB);
    const sealed = sealedOf([part]);
    await push({ sealed: sealed.bytes, reference: at('forged:1') });
    const reuse = write(sealedOf([{ ...part, bytes: newPart(MIB).bytes }]).bytes);
    const pulled = await pull({ reference: at('forged:1'), reuse });
    expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(sealed.bytes));
    expect(pulled.reused).toBe(0);
  });

  test('skopeo copy moves the artifact to a layout and back, and it is the same', async () => {
    const sealed = sealedOf([newPart(MIB + 1), newPart(50 + SHORT)]);
    const { digest } = await push({ sealed: sealed.bytes, reference: at('moved:1') });
    const layout = join(temporaryDirectory(), 'layout');
    skopeo('copy', '-q', '--src-tls-verify=false', `docker://${at('moved:1')}`, `oci:${layout}:1`);
    skopeo('copy', '-q', '--dest-tls-verify=false', `oci:${layout}:1`, `docker://${at('back:1')}`);
    const pulled = await pull({ reference: at('back:1') });
    expect(pulled.digest).toBe(digest);
    expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(sealed.bytes));
  });

  test('the build manifest is attached and comes back, with its signature; the registry has no referrers API', async () => {
    const sealed = sealedOf([newPart(100 + SHORT)]);
    const manifest = buildFiles(statement(), '{"signed":true}');
    const pushed = await push({ sealed: sealed.bytes, reference: at('built:1'), manifest });
    expect(pushed.manifest?.signed).toBe(true);
    // A second time, and to another tag: listed once.
    await push({ sealed: sealed.bytes, reference: at('built:2'), manifest });
    const list = await document(
      `built/manifests/${pushed.digest.replace(':', '-')}`,
      'application/vnd.oci.image.index.v1+json',
    );
    expect(list.manifests).toMatchObject([
      { digest: pushed.manifest?.digest, artifactType: 'application/vnd.atoma.build.v1' },
    ]);
    const referrer = await document(`built/manifests/${pushed.manifest?.digest}`);
    expect(referrer).toMatchObject({
      subject: { digest: pushed.digest },
      layers: [{ mediaType: 'application/vnd.in-toto+json' }, {}],
    });

    const path = join(temporaryDirectory(), 'build.intoto.json');
    const pulled = await pull({ reference: at('built:1'), out: undefined, manifest: path });
    expect(pulled).toMatchObject({ path: null, moved: 0, manifest: { path, verified: false } });
    expect(read(path)).toEqual(statement());
    expect(read(join(path, '../build.sigstore.json')).toString()).toBe('{"signed":true}');
  });

  test('a build manifest of something else is refused before anything is pushed; none and two are said', async () => {
    const sealed = sealedOf([newPart(100 + SHORT)]);
    const reference = at('unbuilt:1');
    const other = buildFiles(statement({ modelDigest: 'cc'.repeat(32) }));
    await refusal(
      push({ sealed: sealed.bytes, reference, manifest: other }),
      'ERR_ARTIFACT_UNRELATED',
      3,
      /another model/,
    );
    await refusal(pull({ reference }), 'ERR_OCI_NOT_FOUND', 2, /has no sealed model/);
    await push({ sealed: sealed.bytes, reference });
    const manifest = join(temporaryDirectory(), 'b.json');
    await refusal(pull({ reference, manifest }), 'ERR_ARTIFACT_NO_MANIFEST', 2, /no build manifest/);
    for (const toolkit of ['1', '2'])
      await push({ sealed: sealed.bytes, reference, manifest: buildFiles(statement({ toolkit })) });
    await refusal(pull({ reference, manifest }), 'ERR_ARTIFACT_AMBIGUOUS', 2, /found 2/);
    expect(existsSync(manifest)).toBe(false);
  });

  test('what is not there, and a build manifest in the place of a sealed model', async () => {
    const sealed = sealedOf([newPart(100 + SHORT)]);
    await push({ sealed: sealed.bytes, reference: at('both:1') });
    await refusal(pull({ reference: at('none:1') }), 'ERR_OCI_NOT_FOUND', 2, /has no sealed model/);
    const manifest = buildFiles();
    const { manifest: build } = await push({ sealed: sealed.bytes, reference: at('both:1'), manifest });
    await refusal(pull({ reference: `${at('both')}@${build?.digest}` }), 'ERR_ARTIFACT_KIND', 2, /build\.v1/);
  });

  test('what is not a place to push to', async () => {
    const sealed = sealedOf([newPart(100 + SHORT)]).bytes;
    const host = registry.host;
    for (const reference of [
      `${host}/a`,
      'a:1',
      `${host}/A:1`,
      `${host}/../x:1`,
      `${host}/a@sha256:12`,
      `u:p@${host}/a:1`,
    ])
      await refusal(push({ sealed, reference }), 'ERR_OCI_REFERENCE', 2, /expected REGISTRY/);
    const pinned = `${host}/a@sha256:${hex(sha256())}`;
    await refusal(push({ sealed, reference: pinned }), 'ERR_OCI_REFERENCE', 2, /to push to/);
  });

  test('a file that is cut off, longer, or has something in its padding is not pushed', async () => {
    const { bytes, header } = sealedOf([newPart(100 + SHORT)]);
    const dirty = Buffer.from(bytes);
    dirty[bytes.length - 1] = 1;
    const reference = at('bad:1');
    await refusal(push({ sealed: dirty, reference }), 'ERR_SEAL_PADDING', 2, /padding/);
    await refusal(push({ sealed: bytes.subarray(0, -1), reference }), 'ERR_SEAL_TRUNCATED', 2, /cut off/);
    await refusal(push({ sealed: Buffer.concat([bytes, dirty]), reference }), 'ERR_SEAL_TRAILING', 2, /expected/);
    const forged = Buffer.from(bytes);
    const last = header.length - 1;
    forged[last] = (forged[last] ?? 0) ^ 1;
    await refusal(push({ sealed: forged, reference }), 'ERR_SEAL_SIGNATURE', 3, /signature/);
    await refusal(pull({ reference }), 'ERR_OCI_NOT_FOUND', 2, /no sealed model/);
  });

  describe('a line that breaks', () => {
    test('a push goes on; between requests at the offset that the registry reports', async () => {
      const part = newPart(3 * MIB);
      const sealed = sealedOf([part]);
      const line = await fragile(registry.host, 'up');
      // Somewhere in the second request of three: docker-registry 2.8 then forgets the upload, and it begins again.
      line.allowance = 1.6 * MIB;
      const pushed = await push({ sealed: sealed.bytes, reference: `${line.host}/models/broken:1`, chunk: MIB });
      expect(line.breaks).toBe(1);
      expect(pushed.moved).toBeGreaterThan(3 * MIB);
      const pulled = await pull({ reference: at('broken:1') });
      expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(sealed.bytes));
    });

    test('a pull goes on, in the same run and in the next', async () => {
      const sealed = sealedOf([newPart(3 * MIB), newPart(2 * MIB), newPart(77 + SHORT)]);
      await push({ sealed: sealed.bytes, reference: at('fetched:1') });
      const line = await fragile(registry.host, 'down');
      const reference = `${line.host}/models/fetched:1`;
      line.allowance = 2 * MIB;
      const pulled = await pull({ reference });
      expect(line.breaks).toBe(1);
      expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(sealed.bytes));
      expect(line.passed).toBeLessThan(sealed.bytes.length + 500_000);

      line.allowance = 3 * MIB;
      const out = join(temporaryDirectory(), 'again.sealed');
      const limits = { ...FAST, attempts: 1 };
      await refusal(pull({ reference, out, limits }), 'ERR_OCI_REGISTRY', 5, /cannot fetch/);
      expect(readdirSync(dirname(out))).toEqual(['again.sealed.pull.partial']);
      line.passed = 0;
      const rest = await pull({ reference, out });
      expect(rest.kept).toBeGreaterThan(0);
      expect(rest.kept + rest.moved).toBe(sealed.header.length + sealed.index.length + 5 * MIB + 77 + SHORT);
      expect(line.passed).toBeLessThan(rest.moved + 20_000);
      expect(digestOf(read(out))).toBe(digestOf(sealed.bytes));
      expect(readdirSync(dirname(out))).toEqual(['again.sealed']);
    });

    test('what an earlier run left is compared: of another model, or damaged, it does no harm', async () => {
      const sealed = sealedOf([newPart(2 * MIB), newPart(MIB)]);
      await push({ sealed: sealed.bytes, reference: at('left:1') });
      const out = join(temporaryDirectory(), 'x.sealed');
      const left = `${out}.pull.partial`;
      const damaged = Buffer.from(sealed.bytes);
      damaged[2 * MIB] = (damaged[2 * MIB] ?? 0) ^ 1;
      for (const bytes of [damaged, sealedOf([newPart(2 * MIB), newPart(MIB)]).bytes, Buffer.from('short')]) {
        renameSync(write(bytes), left);
        const pulled = await pull({ reference: at('left:1'), out });
        expect(digestOf(read(out))).toBe(digestOf(sealed.bytes));
        expect(pulled.kept).toBe(bytes === damaged ? MIB + sealed.index.length : 0);
      }
      expect(readdirSync(dirname(out))).toEqual(['x.sealed']);
    });
  });

  describe('with authentication', () => {
    let closed: TestRegistry;
    let tokens: TokenServer;
    let guarded: TestRegistry;
    beforeAll(async () => {
      closed = await startRegistry(dir, passwordAuth(dir));
      tokens = await startTokenServer(dir);
      guarded = await startRegistry(dir, tokens.auth);
    });
    afterAll(async () => {
      await Promise.all([closed?.stop(), guarded?.stop(), tokens?.stop()]);
    });

    test('by password', async () => {
      const sealed = sealedOf([newPart(MIB)]);
      const reference = `${closed.host}/team/model:1`;
      await refusal(push({ sealed: sealed.bytes, reference }), 'ERR_OCI_AUTH', 5, /wants a password/);
      const env = login(closed.host, USER);
      await push({ sealed: sealed.bytes, reference, env });
      const pulled = await pull({ reference, env });
      expect(digestOf(read(pulled.path ?? ''))).toBe(digestOf(sealed.bytes));
      const wrong = login(closed.host, { name: 'somebody', password: 'very secret' });
      const error = await refusal(push({ sealed: sealed.bytes, reference, env: wrong }), 'ERR_OCI_AUTH', 5, /401/);
      expect(JSON.stringify(error) + error.stack).not.toContain('very secret');
    });

    test('by token: one, for reading and writing, and for the repository that is mounted from', async () => {
      const sealed = sealedOf([newPart(MIB), newPart(5 + SHORT)]);
      const env = login(guarded.host, USER);
      tokens.asked.length = 0;
      await push({ sealed: sealed.bytes, reference: `${guarded.host}/team/tokens:1`, env });
      expect(tokens.asked.map(({ url }) => url.searchParams.getAll('scope'))).toEqual([
        ['repository:team/tokens:pull,push'],
      ]);
      tokens.asked.length = 0;
      const reference = `${guarded.host}/team/mounted:1`;
      const mounted = await push({ sealed: sealed.bytes, reference, env, from: 'team/tokens' });
      expect(mounted.moved).toBe(0);
      expect(tokens.asked.map(({ url }) => url.searchParams.getAll('scope'))).toEqual([
        ['repository:team/mounted:pull,push', 'repository:team/tokens:pull'],
      ]);
      expect(digestOf(read((await pull({ reference, env })).path ?? ''))).toBe(digestOf(sealed.bytes));
      await refusal(push({ sealed: sealed.bytes, reference: `${guarded.host}/open/x:1` }), 'ERR_OCI_AUTH', 5, /401/);
    });
  });
});

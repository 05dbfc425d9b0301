import { copyFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { readBuildPrivateKey } from '../../../src/keys/ec.ts';
import { generateKey, type KeyType } from '../../../src/keys/generate.ts';
import { cosignHint, signBundle } from '../../../src/manifest/bundle.ts';
import { build } from '../../../src/tasks/build/index.ts';
import { inspect } from '../../../src/tasks/inspect.ts';
import { loadOrBelieve } from '../../../src/tasks/stated-images.ts';
import { verify } from '../../../src/tasks/verify/index.ts';
import { gramineProject } from '../gramine/project.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-signed-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const key = (name: string, type: KeyType = 'build') => {
  const { privatePem, publicPem } = generateKey(type);
  writeFileSync(join(dir, name), privatePem);
  writeFileSync(join(dir, `${name}.pub`), publicPem);
  return { path: join(dir, name), pub: join(dir, `${name}.pub`), ...readIf(type, privatePem) };
};
const readIf = (type: KeyType, pem: string) => (type === 'build' ? readBuildPrivateKey(Buffer.from(pem)) : undefined);
const ours = key('build') as ReturnType<typeof key> & ReturnType<typeof readBuildPrivateKey>;
const theirs = key('other') as typeof ours;
const [eif, recovery] = [key('eif', 'eif'), key('recovery', 'recovery')];

/** Built once, by the first test: of a Nitro image, which is measured in no time. */
const original = join(dir, 'original');
async function signedBuild(out: string, targets = ['nitro']) {
  const { dir: project, cacheDir, programPath } = await gramineProject(targets);
  const options = { project, cacheDir, programPath, out };
  const { signature } = await build({ ...options, sign: ours.path });
  expect(signature).toBe(join(out, 'build.sigstore.json'));
  return options;
}

/** A copy of the signed build, changed. */
let copies = 0;
async function signed(change: (dist: string) => void = () => {}) {
  if (!existsSync(original)) await signedBuild(original);
  const dist = join(dir, `dist${copies++}`);
  cpSync(original, dist, { recursive: true });
  change(dist);
  return { manifest: join(dist, 'build.intoto.json'), bundle: join(dist, 'build.sigstore.json') };
}
const judge = async (file: string, pub?: string, kind?: 'manifest-signature') => {
  const { verdict, results } = await verify({ files: [file], key: pub, kind, expect: [], allowSimulated: [] });
  const [result] = results;
  const failed = result?.checks.filter(({ status }) => status === 'fail').map(({ id }) => id);
  return { verdict, failed, kind: result?.kind, notChecked: result?.notChecked.join('\n') };
};
const edit = (path: string, change: (text: string) => string) =>
  writeFileSync(path, change(readFileSync(path, 'utf8')));
/** Signs whatever text the manifest becomes, with a key. */
const resign = (dist: string, by: typeof ours, change: (text: string) => string, manifestToo = true) => {
  const text = change(readFileSync(join(dist, 'build.intoto.json'), 'utf8'));
  if (manifestToo) writeFileSync(join(dist, 'build.intoto.json'), text);
  writeFileSync(join(dist, 'build.sigstore.json'), signBundle(Buffer.from(text), by.key, cosignHint(by.publicKey)));
};

describe('a signed manifest passes', () => {
  test('with the key, by the manifest and by its signature', async () => {
    const { manifest, bundle } = await signed();
    expect(await judge(manifest, ours.pub)).toMatchObject({ verdict: 'pass', failed: [], kind: 'build-manifest' });
    expect(await judge(bundle, ours.pub)).toMatchObject({ verdict: 'pass', failed: [], kind: 'manifest-signature' });
    expect((await judge(manifest, ours.pub)).notChecked).not.toContain('who made');
  });

  test('without a key it is said that nobody looked at the signature', async () => {
    const { manifest } = await signed();
    const { verdict, notChecked } = await judge(manifest);
    expect(verdict).toBe('pass');
    expect(notChecked).toContain('no key was given that says by whom');
  });

  test('the manifest is the one of an unsigned build, byte for byte, which takes an old signature away', async () => {
    const out = join(dir, 'twice');
    const [manifest, bundle] = [join(out, 'build.intoto.json'), join(out, 'build.sigstore.json')];
    const options = await signedBuild(out);
    const before = readFileSync(manifest);
    await build(options);
    expect(readFileSync(manifest)).toEqual(before);
    expect(existsSync(bundle)).toBe(false);
    expect((await judge(manifest)).notChecked).toContain('it is not signed');
  });

  test('inspect says whose it says it is, and believes nothing', async () => {
    const { bundle } = await signed();
    expect(await inspect(bundle, {})).toMatchObject({
      kind: 'manifest-signature',
      verified: false,
      method: 'key',
      key: cosignHint(ours.publicKey),
      manifest: { kind: 'build-manifest', model: { sha256: expect.any(String) } },
    });
  });
});

describe('a signed manifest fails', () => {
  test('signed by another key', async () => {
    const { manifest, bundle } = await signed((dist) => resign(dist, theirs, (text) => text));
    expect(await judge(manifest, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['signature.key'] });
    expect(await judge(bundle, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['signature.key'] });
  });

  test('whose signature is missing: not skipped', async () => {
    const { manifest, bundle } = await signed((dist) => rmSync(join(dist, 'build.sigstore.json')));
    expect(await judge(manifest, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['signature.present'] });
    await expect(judge(bundle, ours.pub, 'manifest-signature')).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
  });

  test('of which only the signature is there', async () => {
    const { bundle } = await signed((dist) => rmSync(join(dist, 'build.intoto.json')));
    expect(await judge(bundle, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['signature.present'] });
  });

  test('that was changed after it was signed, by one space', async () => {
    const { manifest, bundle } = await signed((dist) => edit(join(dist, 'build.intoto.json'), (text) => `${text} `));
    expect(await judge(manifest, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['signature.payload'] });
    expect(await judge(bundle, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['signature.payload'] });
  });

  test('with an altered subject that the right key signed: the image is another', async () => {
    const digest = /("name": "digits.eif",\s*"digest": \{\s*"sha256": ")[0-9a-f]{8}/;
    const { manifest } = await signed((dist) => resign(dist, ours, (text) => text.replace(digest, '$100000000')));
    expect(await judge(manifest, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['image.sha256'] });
  });

  test('with another buildType, or as another type of statement', async () => {
    for (const [from, to] of [
      ['urn:atoma-tee:build:v1', 'urn:atoma-tee:build:v2'],
      ['https://slsa.dev/provenance/v1', 'https://slsa.dev/provenance/v0.2'],
    ] as const) {
      const { manifest } = await signed((dist) => resign(dist, ours, (text) => text.replace(from, to)));
      expect(await judge(manifest, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['manifest.statement'] });
    }
  });

  test('whose signature is over another type of payload, or says so', async () => {
    const { manifest } = await signed((dist) =>
      edit(join(dist, 'build.sigstore.json'), (text) => text.replace('application/vnd.in-toto+json', 'text/plain')),
    );
    expect(await judge(manifest, ours.pub)).toMatchObject({ failed: ['signature.payload-type', 'signature.key'] });
  });

  test('whose signature is not one, or has a second one in it', async () => {
    const twice = (text: string) => {
      const json = JSON.parse(text);
      json.dsseEnvelope.signatures.push(json.dsseEnvelope.signatures[0]);
      return JSON.stringify(json);
    };
    for (const change of [twice, () => 'x', () => '{}']) {
      const { manifest } = await signed((dist) => edit(join(dist, 'build.sigstore.json'), change));
      expect(await judge(manifest, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['signature.bundle'] });
    }
  });

  test('of a keyless signature: what it would take is said', async () => {
    const keyless = (text: string) => {
      const json = JSON.parse(text);
      json.verificationMaterial = { certificate: { rawBytes: 'AAAA' }, tlogEntries: [{}] };
      return JSON.stringify(json);
    };
    const { manifest } = await signed((dist) => edit(join(dist, 'build.sigstore.json'), keyless));
    expect(await judge(manifest, ours.pub)).toMatchObject({ verdict: 'fail', failed: ['signature.method'] });
  });

  test('whose signature is one of a model', async () => {
    const { bundle } = await signed((dist) =>
      resign(dist, ours, () => '{"predicateType":"https://model_signing/signature/v1.0"}', false),
    );
    expect(await judge(bundle, ours.pub, 'manifest-signature')).toMatchObject({
      failed: ['signature.payload', 'manifest.statement'],
    });
  });

  test('attack: outputs that nobody looks at: not passed over in silence', async () => {
    const more = ['evil.tar', '\u001b[2J'].map((name) => ({ name, digest: { sha256: '00'.repeat(32) } }));
    const { manifest } = await signed((dist) =>
      resign(dist, ours, (text) => {
        const json = JSON.parse(text);
        json.predicate.runDetails.byproducts.push(...more);
        return JSON.stringify(json);
      }),
    );
    const { notChecked } = await judge(manifest, ours.pub);
    expect(notChecked).toContain('other outputs that the manifest lists: "evil.tar", "\\u001b[2J"');
    expect((await judge((await signed()).manifest)).notChecked).not.toContain('other outputs');
  });

  test('attack: images that the manifest does not name, put beside its own: told', async () => {
    const { manifest } = await signed((dist) => {
      for (const name of ['digits-2.eif', 'digits.sig', 'notes.txt']) writeFileSync(join(dist, name), 'x');
    });
    const { notChecked } = await judge(manifest, ours.pub);
    expect(notChecked).toContain('beside the manifest, and not named in it: "digits-2.eif", "digits.sig"');
    expect((await judge((await signed()).manifest)).notChecked).not.toContain('beside the manifest');
  });

  test('whose image is not there: an error, never a pass', async () => {
    const { manifest } = await signed((dist) => rmSync(join(dist, 'digits.eif')));
    await expect(judge(manifest, ours.pub)).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND', exitCode: 2 });
  });
});

describe('--key', () => {
  test('a signature without a key is compared with nothing', async () => {
    await expect(judge((await signed()).bundle)).rejects.toMatchObject({ code: 'ERR_NO_EXPECTATION', exitCode: 2 });
  });

  test.each([
    ['the private half', () => ours.path],
    ['a key on another curve', () => eif.pub],
    ['a recovery key', () => recovery.path],
  ])('of another kind: %s', async (_, path) => {
    await expect(judge((await signed()).manifest, path())).rejects.toMatchObject({ code: 'ERR_KEY_KIND', exitCode: 2 });
  });

  test('an image has no use for one', async () => {
    const flags = { expect: ['none'], allowSimulated: [], key: ours.pub };
    await expect(
      verify({ files: [(await signed()).manifest.replace('build.intoto.json', 'digits.eif')], ...flags }),
    ).rejects.toMatchObject({
      code: 'ERR_USAGE',
    });
  });
});

describe('images that are not beside their manifest', () => {
  const alone = async (change: (dist: string) => void = () => {}) => {
    const { manifest } = await signed((dist) => {
      rmSync(join(dist, 'digits.eif'));
      change(dist);
    });
    return manifest;
  };

  test('are believed with the right key, and are what they would be measured as: of both targets', async () => {
    const out = join(dir, 'both');
    await signedBuild(out, ['nitro', 'gramine']);
    const manifest = join(out, 'build.intoto.json');
    const measured = await loadOrBelieve(manifest, {});
    for (const image of ['digits.eif', 'digits.gramine']) rmSync(join(out, image), { recursive: true });
    const { images, stated } = await loadOrBelieve(manifest, { key: ours.pub });
    expect(stated).toEqual([join(out, 'digits.eif'), join(out, 'digits.manifest.sgx')]);
    const facts = ({ target, measurement, config }: (typeof images)[number]) => ({
      ...{ target, measurement, project: config.project, model: config.model },
    });
    expect(images.map(facts)).toEqual(measured.images.map(facts));
  });

  test('are believed without a signature only if told so', async () => {
    const unsigned = await alone((dist) => rmSync(join(dist, 'build.sigstore.json')));
    expect((await loadOrBelieve(unsigned, { trusted: true })).stated).toHaveLength(1);
    await expect(loadOrBelieve(unsigned, { key: ours.pub })).rejects.toMatchObject({ code: 'ERR_FILE_NOT_FOUND' });
    await expect(loadOrBelieve(unsigned, {})).rejects.toMatchObject({
      hint: expect.stringContaining('--manifest-key'),
    });
  });

  test('are not believed of a manifest that another key signed, or that was changed', async () => {
    const other = await alone((dist) => resign(dist, theirs, (text) => text));
    const changed = await alone((dist) =>
      edit(join(dist, 'build.intoto.json'), (text) => text.replace(/("owner": ")[0-9a-f]{2}/, '$1ff')),
    );
    for (const manifest of [other, changed]) {
      await expect(loadOrBelieve(manifest, { key: ours.pub })).rejects.toMatchObject({
        code: 'ERR_MANIFEST_SIGNATURE',
        exitCode: 3,
      });
    }
  });

  test('a key is insisted upon where the images are there, too', async () => {
    const { manifest } = await signed((dist) => resign(dist, theirs, (text) => text));
    await expect(loadOrBelieve(manifest, { key: ours.pub })).rejects.toMatchObject({ code: 'ERR_MANIFEST_SIGNATURE' });
  });

  test('their measurements have to be those that were signed', async () => {
    const measurements = await alone((dist) =>
      edit(join(dist, 'measurements.json'), (text) => text.replace(/"pcr0": "../, '"pcr0": "00')),
    );
    await expect(loadOrBelieve(measurements, { key: ours.pub })).rejects.toMatchObject({
      code: 'ERR_MANIFEST_MEASUREMENTS',
    });
  });

  test('an image that is there is measured, whatever is believed', async () => {
    const { manifest } = await signed((dist) =>
      copyFileSync(join(dist, 'measurements.json'), join(dist, 'digits.eif')),
    );
    await expect(loadOrBelieve(manifest, { trusted: true })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_EIF/),
    });
  });
});

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, test } from 'vitest';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { readBuildPublicKey } from '../../../src/keys/ec.ts';
import { generateKey } from '../../../src/keys/generate.ts';
import { parseBundle } from '../../../src/manifest/bundle.ts';
import { verifyEnvelope } from '../../../src/manifest/dsse.ts';
import { signModel } from '../../../src/tasks/model-signature.ts';
import { temporaryDirectory } from '../image/fixtures.ts';
import { haveVectors, vectors } from '../vectors.ts';

const { privatePem, publicPem } = generateKey('build');
const files = {
  'a.b': '1',
  'a/b': '2',
  'ü "q".txt': '3',
  empty: '',
  '\u{1f600}': '4',
  '\uff5e': '5',
  'sub/.gitignore': '6',
};

function model() {
  const dir = temporaryDirectory();
  const [root, key] = [join(dir, 'model'), join(dir, 'build.key')];
  mkdirSync(join(root, 'a'), { recursive: true });
  mkdirSync(join(root, 'sub'));
  mkdirSync(join(root, '.git'));
  for (const [name, text] of Object.entries({ ...files, '.git/HEAD': 'x', '.gitignore': 'x' }))
    writeFileSync(join(root, name), text);
  writeFileSync(key, privatePem);
  return { dir, root, key };
}
const statement = (path: string) =>
  JSON.parse(parseBundle(readFileSync(path), 'signature').envelope.payload.toString());

describe('a model is signed', () => {
  test('as a list of digests, sorted by code point, with one digest over them all', async () => {
    const { root, key } = model();
    const { path, ...signed } = await signModel({ model: root, key });
    expect(path).toBe(join(root, 'model.sig'));
    const names = ['a.b', 'a/b', 'empty', 'sub/.gitignore', 'ü "q".txt', '\uff5e', '\u{1f600}'];
    const digest = (name: string) => hex(sha256(Buffer.from(files[name as keyof typeof files])));
    const root256 = hex(sha256(...names.map((name) => Buffer.from(digest(name), 'hex'))));
    expect(signed).toEqual({ files: 7, single: false, root: root256, ignored: ['.git/HEAD', '.gitignore'] });
    expect(statement(path)).toEqual({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ name: 'model', digest: { sha256: root256 } }],
      predicateType: 'https://model_signing/signature/v1.0',
      predicate: {
        serialization: {
          method: 'files',
          hash_type: 'sha256',
          allow_symlinks: false,
          ignore_paths: ['.git', '.gitattributes', '.github', '.gitignore', 'model.sig'],
        },
        resources: names.map((name) => ({ name, algorithm: 'sha256', digest: digest(name) })),
      },
    });
  });

  test('by the key, which is named as model_signing names it', async () => {
    const { root, key } = model();
    const { path } = await signModel({ model: root, key });
    const { envelope, hint } = parseBundle(readFileSync(path), 'signature');
    expect(hint).toBe(hex(sha256(Buffer.from(publicPem))));
    expect(verifyEnvelope(envelope, readBuildPublicKey(Buffer.from(publicPem)))).toBe(true);
  });

  test('again, over its own signature, which is no part of it', async () => {
    const { root, key } = model();
    const first = await signModel({ model: root, key });
    expect(await signModel({ model: root, key })).toEqual(first);
  });

  test('with the signature elsewhere, or in it under another name', async () => {
    const { dir, root, key } = model();
    await signModel({ model: root, key, out: join(dir, 'elsewhere.sig') });
    expect(statement(join(dir, 'elsewhere.sig')).predicate.serialization.ignore_paths).not.toContain('elsewhere.sig');
    await signModel({ model: root, key, out: join(root, 'sub/x.sig') });
    expect(statement(join(root, 'sub/x.sig')).predicate.serialization.ignore_paths).toContain('sub/x.sig');
  });

  test('as a single file, by its name', async () => {
    const { root, key } = model();
    const { path } = await signModel({ model: join(root, 'a.b'), key });
    expect(path).toBe(join(root, 'a.b.sig'));
    const { subject, predicate } = statement(path);
    expect([subject[0].name, predicate.resources.map((r: any) => r.name)]).toEqual(['a.b', ['a.b']]);
  });

  test.runIf(haveVectors)("and what was made is valid by the specification's schemas, all four", async () => {
    const { root, key } = model();
    const { path } = await signModel({ model: root, key });
    // Its formats are only for people.
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    const schema = (name: string) => JSON.parse(readFileSync(vectors(`oms/schemas/v1.0/${name}.schema.json`), 'utf8'));
    for (const name of ['predicate', 'statement', 'envelope', 'bundle']) ajv.addSchema(schema(name));
    const judge = (name: string, value: unknown) => {
      const valid = ajv.validate(`https://model_signing/${name}/v1.0/schema`, value);
      return valid ? [] : ajv.errors;
    };
    const bundle = JSON.parse(readFileSync(path, 'utf8'));
    expect(judge('bundle', bundle)).toEqual([]);
    expect(judge('envelope', bundle.dsseEnvelope)).toEqual([]);
    expect(judge('statement', statement(path))).toEqual([]);
    expect(judge('predicate', statement(path).predicate)).toEqual([]);
    expect(judge('statement', { ...statement(path), extra: 1 })).not.toEqual([]);
  });
});

describe('signing is refused', () => {
  test('where the signature would take the place of something else: the model itself', async () => {
    const { root, key } = model();
    for (const name of ['a.b', 'sub', 'empty']) {
      const signing = signModel({ model: root, key, out: join(root, name) });
      await expect(signing).rejects.toMatchObject({ code: 'ERR_OUTPUT_KIND', exitCode: 2 });
    }
    expect(readFileSync(join(root, 'a.b'), 'utf8')).toBe('1');
  });

  test('for a name that would be another one once it was unsealed', async () => {
    const { root, key } = model();
    writeFileSync(join(root, 'u\u0308'), 'x');
    await expect(signModel({ model: root, key })).rejects.toMatchObject({ code: 'ERR_MODEL_ENTRY', exitCode: 2 });
  });

  test('where there is nothing to sign but what git keeps', async () => {
    const { dir, key } = model();
    mkdirSync(join(dir, 'bare/.git'), { recursive: true });
    writeFileSync(join(dir, 'bare/.git/HEAD'), 'x');
    await expect(signModel({ model: join(dir, 'bare'), key })).rejects.toMatchObject({ code: 'ERR_MODEL_EMPTY' });
  });

  test('where its directory is not there: said in words', async () => {
    const { root, key, dir } = model();
    await expect(signModel({ model: root, key, out: join(dir, 'none/x.sig') })).rejects.toMatchObject({
      code: 'ERR_FILE_NOT_FOUND',
      message: expect.stringContaining('none/x.sig'),
    });
  });

  test('with a key of another kind', async () => {
    const { root, dir } = model();
    for (const type of ['owner', 'eif'] as const) {
      writeFileSync(join(dir, type), generateKey(type).privatePem);
      await expect(signModel({ model: root, key: join(dir, type) })).rejects.toMatchObject({ code: 'ERR_KEY_KIND' });
    }
  });
});

import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { modelSigningHint, signBundle } from '../../../src/manifest/bundle.ts';
import { signModel } from '../../../src/tasks/model-signature.ts';
import { verifyModel } from '../../../src/tasks/model-verify.ts';
import { verify } from '../../../src/tasks/verify/index.ts';
import { temporaryDirectory } from '../image/fixtures.ts';

const pair = (namedCurve = 'P-256') => generateKeyPairSync('ec', { namedCurve });
const keys = pair();
const digest = (text: string) => hex(sha256(Buffer.from(text)));

function signed() {
  const dir = temporaryDirectory();
  const at = (name: string) => join(dir, name);
  mkdirSync(at('model/sub'), { recursive: true });
  writeFileSync(at('model/config.json'), '{}');
  writeFileSync(at('model/sub/weights'), 'weights');
  const keyFiles = ({ privateKey, publicKey }: typeof keys, name: string) => {
    writeFileSync(at(name), privateKey.export({ format: 'pem', type: 'pkcs8' }));
    writeFileSync(at(`${name}.pub`), publicKey.export({ format: 'pem', type: 'spki' }));
  };
  keyFiles(keys, 'key');
  const sign = () => signModel({ model: at('model'), key: at('key') });
  const judge = async (pub = 'key.pub', model = 'model', signature?: string) => {
    const report = await verifyModel({ model: at(model), key: at(pub), signature });
    const [result] = report.results;
    const failed = result?.checks.filter(({ status }) => status === 'fail') ?? [];
    const ids = [...new Set(failed.map(({ id }) => id))];
    return {
      verdict: report.verdict,
      ids,
      text: JSON.stringify(failed),
      notChecked: result?.notChecked.join('\n') ?? '',
    };
  };
  return { dir, at, sign, judge, keyFiles };
}

/** A signature over whatever statement. */
const statement = (resources: { name: string; digest: string; algorithm?: string }[], serialization: object = {}) => {
  const listed = resources.map((resource) => ({ algorithm: 'sha256', ...resource }));
  const digests = listed.map((resource) => Buffer.from(resource.digest, 'hex'));
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: 'anything', digest: { sha256: hex(sha256(...digests)) } }],
    predicateType: 'https://model_signing/signature/v1.0',
    predicate: {
      serialization: { method: 'files', hash_type: 'sha256', allow_symlinks: false, ...serialization },
      resources: listed,
    },
  };
};
const put = (path: string, payload: object, by = keys) =>
  writeFileSync(path, signBundle(Buffer.from(JSON.stringify(payload)), by.privateKey, modelSigningHint(by.publicKey)));
const honest = [
  { name: 'config.json', digest: digest('{}') },
  { name: 'sub/weights', digest: digest('weights') },
];

describe('a signed model passes', () => {
  test('where nothing was changed, wherever it was moved to', async () => {
    const { sign, judge, at } = signed();
    await sign();
    expect(await judge()).toMatchObject({ verdict: 'pass', ids: [], notChecked: '' });
    const { verdict, results } = await verify({
      files: [at('model/model.sig')],
      key: at('key.pub'),
      expect: [],
      allowSimulated: [],
    });
    expect([verdict, results[0]?.kind]).toEqual(['pass', 'model-signature']);
  });

  test("with git's files in it: they are said not to be signed", async () => {
    const { sign, judge, at } = signed();
    await sign();
    mkdirSync(at('model/.git'));
    writeFileSync(at('model/.git/HEAD'), 'x');
    expect(await judge()).toMatchObject({ verdict: 'pass', notChecked: expect.stringContaining('.git/HEAD') });
  });

  test('as a single file: by its name, or as the reference implementation names it, "."', async () => {
    const { judge, at } = signed();
    await signModel({ model: at('model/config.json'), key: at('key') });
    expect((await judge('key.pub', 'model/config.json')).verdict).toBe('pass');
    put(at('dot.sig'), statement([{ name: '.', digest: digest('{}') }]));
    expect((await judge('key.pub', 'model/config.json', at('dot.sig'))).verdict).toBe('pass');
    expect((await judge('key.pub', 'model/sub/weights', at('dot.sig'))).ids).toEqual(['model.changed']);
  });

  test('in another order, with fields of a later version, older names of the key, and by other curves', async () => {
    const { judge, at, keyFiles } = signed();
    const later = statement([...honest].reverse());
    put(at('model/model.sig'), { ...later, predicate: { ...later.predicate, added: { deep: [1] } } });
    expect(await judge()).toMatchObject({ verdict: 'pass', ids: [] });
    for (const curve of ['P-384', 'P-521']) {
      const other = pair(curve);
      keyFiles(other, curve);
      put(at('model/model.sig'), statement(honest), other);
      expect(await judge(`${curve}.pub`)).toMatchObject({ verdict: 'pass', ids: [] });
    }
  });

  test('in shards, as the specification or the reference implementation has their algorithm', async () => {
    const { judge, at } = signed();
    const shards = [
      { name: 'config.json:0:2', digest: digest('{}') },
      { name: 'sub/weights:0:4', digest: digest('weig') },
      { name: 'sub/weights:4:7', digest: digest('hts') },
    ];
    const settings = { method: 'shards', shard_size: 4 };
    for (const algorithm of ['sha256', 'sha256-sharded-4']) {
      put(
        at('model/model.sig'),
        statement(
          shards.map((shard) => ({ ...shard, algorithm })),
          settings,
        ),
      );
      expect(await judge()).toMatchObject({ verdict: 'pass', ids: [] });
    }
    writeFileSync(at('model/sub/weights'), 'weiXhts');
    expect(await judge()).toMatchObject({ verdict: 'fail', ids: ['model.changed'] });
    writeFileSync(at('model/sub/weights'), 'wei');
    expect(await judge()).toMatchObject({ verdict: 'fail', ids: ['model.missing', 'model.extra'] });
    writeFileSync(at('model/sub/weights'), 'weights and more');
    expect(await judge()).toMatchObject({ verdict: 'fail', ids: ['model.list'] });
  });
});

describe('a signed model fails', () => {
  test('for a file that was changed, one that is missing and one more: each is named', async () => {
    const { sign, judge, at } = signed();
    await sign();
    writeFileSync(at('model/config.json'), '[]');
    rmSync(at('model/sub/weights'));
    writeFileSync(at('model/sub/evil.py'), 'x');
    const { verdict, ids, text } = await judge();
    expect([verdict, ids]).toEqual(['fail', ['model.missing', 'model.extra', 'model.changed']]);
    for (const name of ['config.json', 'sub/weights', 'evil.py']) expect(text).toContain(name);
  });

  test('for a file whose name differs only in case, and one moved elsewhere', async () => {
    const { sign, judge, at } = signed();
    await sign();
    rmSync(at('model/config.json'));
    writeFileSync(at('model/Config.json'), '{}');
    expect((await judge()).ids).toEqual(['model.missing', 'model.extra']);
  });

  test('for files of git below the top, and a signature under another name', async () => {
    const { sign, judge, at } = signed();
    await sign();
    writeFileSync(at('model/sub/.gitignore'), 'x');
    expect((await judge()).ids).toEqual(['model.extra']);
    rmSync(at('model/sub/.gitignore'));
    put(at('model/other.sig'), statement(honest));
    expect((await judge()).ids).toEqual(['model.extra']);
  });

  test('for a symbolic link, to the very bytes that were signed or out of the model', async () => {
    const { sign, judge, at } = signed();
    await sign();
    rmSync(at('model/config.json'));
    writeFileSync(at('outside'), '{}');
    symlinkSync(at('outside'), at('model/config.json'));
    expect(await judge()).toMatchObject({
      verdict: 'fail',
      ids: ['model.list'],
      text: expect.stringContaining('symbolic link'),
    });
  });

  test('by another key, before a byte of the model is read', async () => {
    const { judge, at } = signed();
    put(at('model/model.sig'), statement(honest), pair());
    expect(await judge()).toMatchObject({ verdict: 'fail', ids: ['signature.key'] });
    put(at('model/model.sig'), statement(honest));
    expect(await judge('key.pub', 'nothing', at('model/model.sig'))).toMatchObject({
      verdict: 'fail',
      ids: ['model.list'],
    });
  });

  test('where the statement contradicts itself: another digest over the list', async () => {
    const { judge, at } = signed();
    const wrong = statement(honest);
    put(at('model/model.sig'), { ...wrong, subject: [{ name: 'x', digest: { sha256: '00'.repeat(32) } }] });
    expect((await judge()).ids).toEqual(['signature.subject']);
  });

  test('where the signature leaves out what it lists', async () => {
    const { judge, at } = signed();
    put(at('model/model.sig'), statement(honest, { ignore_paths: ['sub/'] }));
    expect(await judge()).toMatchObject({ ids: ['model.missing'], notChecked: expect.stringContaining('sub/weights') });
  });
});

describe('a signature is refused', () => {
  const base = statement(honest);
  const resources = (...names: string[]) => statement(names.map((name) => ({ name, digest: digest('{}') })));
  test.each<[string, string, object]>([
    ['of a name that leads out', 'model.list', resources('../config.json')],
    ['of an absolute name', 'model.list', resources('/etc/passwd')],
    ['of a name with "." in it', 'model.list', resources('./config.json', 'sub/weights')],
    ['of a name with an empty part', 'model.list', resources('sub//weights')],
    ['of a name with a backslash', 'model.list', resources('sub\\weights')],
    ['of a name with NUL', 'model.list', resources('config.json\0')],
    ['of "." among other names', 'model.list', resources('.', 'config.json')],
    ['of a name that stands there twice', 'model.list', statement([...honest, ...honest])],
    ['that leaves out everything: "."', 'model.list', statement(honest, { ignore_paths: ['.'] })],
    ['that leaves out by a pattern', 'model.list', statement(honest, { ignore_paths: ['*'] })],
    ['that leaves out what lies elsewhere', 'model.list', statement(honest, { ignore_paths: ['../x'] })],
    [
      'by BLAKE3, which this version does not compute',
      'model.list',
      statement(
        honest.map((r) => ({ ...r, algorithm: 'blake3' })),
        { hash_type: 'blake3' },
      ),
    ],
    [
      'by BLAKE2b',
      'model.list',
      statement(
        honest.map((r) => ({ ...r, algorithm: 'blake2b' })),
        { hash_type: 'blake2b' },
      ),
    ],
    ['that mixes algorithms', 'model.list', statement(honest.map((r) => ({ ...r, algorithm: 'blake3' })))],
    ['with short digests', 'model.list', statement(honest.map((r) => ({ ...r, digest: r.digest.slice(0, 32) })))],
    ['that followed symbolic links', 'model.list', statement(honest, { allow_symlinks: true })],
    ['in shards without a size', 'signature.statement', statement(honest, { method: 'shards' })],
    ['in shards of nothing', 'signature.statement', statement(honest, { method: 'shards', shard_size: 0 })],
    ['in shards whose names have no range', 'model.list', statement(honest, { method: 'shards', shard_size: 4 })],
    ['by an unknown method', 'signature.statement', statement(honest, { method: 'tensors' })],
    ['of nothing', 'signature.statement', statement([])],
    ['of two models', 'signature.statement', { ...base, subject: [...base.subject, ...base.subject] }],
    ['of another predicate', 'signature.statement', { ...base, predicateType: 'https://slsa.dev/provenance/v1' }],
    ['of the draft 0.2', 'signature.statement', { ...base, predicateType: 'https://model_signing/Digests/v0.1' }],
    ['that is no statement', 'signature.statement', []],
  ])('%s', async (_, id, payload) => {
    const { judge, at } = signed();
    put(at('model/model.sig'), payload);
    expect(await judge()).toMatchObject({ verdict: 'fail', ids: [id] });
  });

  test('that hashes otherwise, with a hint who can judge it', async () => {
    const { judge, at } = signed();
    const blake = honest.map((resource) => ({ ...resource, algorithm: 'blake3' }));
    put(at('model/model.sig'), statement(blake, { hash_type: 'blake3' }));
    expect((await judge()).text).toContain('digests by blake3; this version computes sha256 alone');
  });

  test('without a key to judge it by', async () => {
    const { sign, at } = signed();
    await sign();
    const judging = verify({ files: [at('model/model.sig')], expect: [], allowSimulated: [] });
    await expect(judging).rejects.toMatchObject({ code: 'ERR_NO_EXPECTATION', exitCode: 2 });
  });
});

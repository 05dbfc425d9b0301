import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import canonicalize from 'canonicalize';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestModel } from '../../../src/model/digest-files.ts';
import { listModel, modelDigest } from '../../../src/model/model.ts';
import { checkOnnx, findOnnx } from '../../../src/model/onnx.ts';
import { badPath, badPathSet } from '../../../src/model/paths.ts';
import { haveVectors, vectors } from '../vectors.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'atoma-model-'));
});
afterEach(() => rmSync(dir, { recursive: true }));
const sha = (text: string) => createHash('sha256').update(text).digest('hex');

describe('listModel and digestModel', () => {
  test('a directory: sorted by code point, sizes, modes, digests', async () => {
    mkdirSync(join(dir, 'sub'));
    for (const name of ['b', 'a', 'sub/c', 'sub.d', '\u{ff21}.txt', '\u{1f600}.txt'])
      writeFileSync(join(dir, name), name);
    chmodSync(join(dir, 'a'), 0o640);
    const { files, digest } = await digestModel(dir);
    expect(files.map((f) => f.path)).toEqual(['a', 'b', 'sub.d', 'sub/c', '\u{ff21}.txt', '\u{1f600}.txt']);
    expect(files[0]).toMatchObject({ size: 1, mode: 0o640, sha256: sha('a') });
    expect(digest).toBe(modelDigest(files.map((f) => ({ name: f.path, sha256: f.sha256 })).reverse()));
  });

  test('a single file is a list of one, under its own name', async () => {
    writeFileSync(join(dir, 'm.onnx'), 'x');
    const { files, digest } = await digestModel(join(dir, 'm.onnx'));
    expect(files.map((f) => f.path)).toEqual(['m.onnx']);
    expect(digest).toBe(sha(`[{"algorithm":"sha256","digest":"${sha('x')}","name":"m.onnx"}]`));
  });

  test.skipIf(!haveVectors)(
    'the digest is over the resources of a real OMS signature (needs ../shared/vectors)',
    () => {
      const bundle = JSON.parse(
        readFileSync(vectors('oms', 'test-vectors', 'v1.0', 'valid', 'key.bundle.json'), 'utf8'),
      );
      const statement = JSON.parse(Buffer.from(bundle.dsseEnvelope.payload, 'base64').toString());
      const resources: { name: string; digest: string }[] = statement.predicate.resources;
      const ours = modelDigest(resources.map((r) => ({ name: r.name, sha256: r.digest })));
      expect(ours).toBe(sha(canonicalize(resources) ?? ''));
    },
  );

  test('missing, empty, link, fifo, name that is not UTF-8', async () => {
    await expect(listModel(join(dir, 'none'))).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND', exitCode: 2 });
    await expect(listModel(dir)).rejects.toMatchObject({ code: 'ERR_MODEL_EMPTY', exitCode: 2 });
    writeFileSync(join(dir, 'a'), '');
    symlinkSync('a', join(dir, 'l'));
    await expect(listModel(dir)).rejects.toMatchObject({
      code: 'ERR_MODEL_ENTRY',
      message: expect.stringContaining('symbolic link'),
    });
    await expect(listModel(join(dir, 'l'))).rejects.toMatchObject({ code: 'ERR_MODEL_ENTRY' });
    rmSync(join(dir, 'l'));
    execFileSync('mkfifo', [join(dir, 'f')]);
    await expect(listModel(dir)).rejects.toMatchObject({
      code: 'ERR_MODEL_ENTRY',
      message: expect.stringContaining('not a regular file'),
    });
    rmSync(join(dir, 'f'));
    writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff])]), '');
    await expect(listModel(dir)).rejects.toMatchObject({
      code: 'ERR_MODEL_ENTRY',
      message: expect.stringContaining('UTF-8'),
    });
  });

  test('names that collide on another system', async () => {
    writeFileSync(join(dir, 'Model'), '');
    writeFileSync(join(dir, 'model'), '');
    await expect(listModel(dir)).rejects.toMatchObject({
      code: 'ERR_MODEL_ENTRY',
      message: expect.stringContaining('only in case'),
    });
  });

  test.each([
    ['a final sigma', 'ΑΣ', 'ασ'],
    ['a long s', 'ſ', 's'],
    ['a sharp s', 'ß', 'SS'],
    ['the Kelvin sign', '\u212a', 'k'],
  ])('names that collide on another system: %s', (_, one, other) => {
    expect(badPathSet([one, other])).toContain('only in case');
  });

  test('a name in NFD is sealed as NFC, and collides with it', async () => {
    writeFileSync(join(dir, 'e\u0301'), '');
    expect((await listModel(dir))[0]?.path).toBe('\u00e9');
    writeFileSync(join(dir, '\u00e9'), '');
    await expect(listModel(dir)).rejects.toMatchObject({ code: 'ERR_MODEL_ENTRY' });
  });
});

describe('paths', () => {
  test.each([
    '',
    '/a',
    'a//b',
    'a/',
    '.',
    'a/../b',
    '../a',
    './a',
    'a\\b',
    'a\0b',
    'a\nb',
    'e\u0301',
    '\ud800',
    'x'.repeat(256),
    'a/'.repeat(2100),
  ])('refuses %j', (path) => expect(badPath(path)).not.toBeNull());
  test('takes ordinary ones', () => {
    for (const path of ['a', 'a/b.c', '..a', 'a..', '\u00e9', '\u{1f600}', 'a b']) expect(badPath(path)).toBeNull();
  });
  test.each([[['a', 'a']], [['a', 'A']], [['a', 'a/b']], [['A', 'a/b']], [['a/b', 'A/c']], [['x/\u00c9', 'x/\u00e9']]])(
    'refuses together %j',
    (paths) => expect(badPathSet(paths)).not.toBeNull(),
  );
  test('takes siblings', () => expect(badPathSet(['a/b', 'a/c', 'ab', 'b/a'])).toBeNull());
});

describe('onnx', () => {
  const varint = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...varint(Math.floor(n / 128))]);
  const field = (n: number, bytes: Uint8Array) =>
    Buffer.from([...varint(n * 8 + 2), ...varint(bytes.length), ...bytes]);
  const graph = field(7, Buffer.alloc(300));
  const opset = field(8, Buffer.from([0x10, 17]));
  const model = Buffer.concat([Buffer.from([8, 9]), field(2, Buffer.from('pytorch')), graph, opset]);
  const check = async (bytes: Uint8Array) => {
    writeFileSync(join(dir, 'm'), bytes);
    await checkOnnx(join(dir, 'm'));
  };

  test('finds the graph', () => {
    expect(findOnnx([{ path: 'x.onnx' }])).toBe('x.onnx');
    expect(findOnnx([{ path: 'a.onnx' }, { path: 'model.onnx' }])).toBe('model.onnx');
    expect(findOnnx([{ path: 'a.onnx' }, { path: 'labels.txt' }])).toBe('a.onnx');
    for (const files of [[], [{ path: 'a.bin' }], [{ path: 'a.onnx' }, { path: 'b.onnx' }]]) {
      expect(() => findOnnx(files)).toThrow(expect.objectContaining({ code: 'ERR_MODEL_NOT_ONNX', exitCode: 2 }));
    }
  });

  test('takes a model', () => check(model));

  test('truncated anywhere inside a field, or without a needed one', async () => {
    const boundaries = new Set([2, 11]);
    for (let i = 0; i < model.length; i++) {
      if (boundaries.has(i)) continue;
      await expect(check(model.subarray(0, i))).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_ONNX' });
    }
    await expect(check(Buffer.concat([Buffer.from([8, 9]), opset]))).rejects.toMatchObject({
      message: expect.stringContaining('no graph'),
    });
    await expect(check(Buffer.concat([graph, opset]))).rejects.toMatchObject({
      message: expect.stringContaining('IR version'),
    });
    await expect(check(Buffer.concat([Buffer.from([8, 9]), graph]))).rejects.toMatchObject({
      message: expect.stringContaining('operator set'),
    });
  });

  test('other files', async () => {
    for (const bytes of [
      Buffer.from('GGUF\x03\0\0\0'),
      Buffer.from('PK\x03\x04'),
      Buffer.from('{"a":1}'),
      Buffer.alloc(64),
      Buffer.alloc(64, 0xff),
    ]) {
      await expect(check(bytes)).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_ONNX' });
    }
  });
});

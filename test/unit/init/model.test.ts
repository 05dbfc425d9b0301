import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { OnnxValue } from '../../../src/model/onnx-describe.ts';
import { exampleRequest } from '../../../src/tasks/init/graph.ts';
import { lookAtModel } from '../../../src/tasks/init/model.ts';
import { counted, projectName, shellWord } from '../../../src/tasks/init/words.ts';
import { root } from '../../ordinary-user.ts';
import { gguf, twoTensors } from './weights.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const digits = join(root, 'examples/digits/model/digits.onnx');

let made = 0;
function model(files: Record<string, Buffer | string>): string {
  const path = join(dir, `m${made++}`);
  mkdirSync(path);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(path, name), bytes);
  return path;
}

describe('what a model is', () => {
  test('ONNX: a file, and the directory that holds it', async () => {
    const found = await lookAtModel(digits, false);
    expect(found).toMatchObject({ format: 'onnx', path: digits, size: 38915 });
    expect(found.summary).toBe('ONNX, 9 611 parameters; takes image FLOAT [batch, 64]');
    expect((await lookAtModel(join(root, 'examples/digits/model'), false)).format).toBe('onnx');
  });

  test('safetensors in several files, a GGUF file', async () => {
    const shards = model({ 'a.safetensors': twoTensors(), 'b.safetensors': twoTensors(), 'config.json': '{}' });
    expect(await lookAtModel(shards, false)).toMatchObject({
      format: 'safetensors',
      summary: 'safetensors, 4 tensors, 28 parameters',
    });
    expect(await lookAtModel(model({ 'm.gguf': gguf() }), false)).toMatchObject({
      format: 'gguf',
      summary: 'GGUF, llama, 2 tensors, 38 parameters',
    });
  });

  test('weights that are safe are taken where a pickle lies beside them', async () => {
    const both = model({ 'pytorch_model.bin': '\x80\x02}', 'model.safetensors': twoTensors() });
    expect((await lookAtModel(both, false)).format).toBe('safetensors');
  });

  test('what is not known', async () => {
    expect(await lookAtModel(model({ weights: 'abc' }), false)).toMatchObject({ format: 'unknown' });
  });

  test.each([
    ['a pickle by its name', { 'm.pt': 'PK\x03\x04' }, /pickle/, /ONNX.*safetensors/],
    ['a pickle by its first bytes', { data: Buffer.from('80049500', 'hex') }, /pickle/, /ONNX/],
    ['a Keras model', { 'm.h5': '\x89HDF' }, /Keras/, /tf2onnx/],
    ['a TensorFlow Lite model', { data: Buffer.from('1c00000054464c33', 'hex') }, /TensorFlow Lite/, /tf2onnx/],
    ['a SavedModel', { 'saved_model.pb': 'x' }, /SavedModel/, /tf2onnx/],
  ])('refused: %s; a command may serve it', async (_, files, message, hint) => {
    const path = model(files as Record<string, Buffer>);
    await expect(lookAtModel(path, false)).rejects.toMatchObject({
      code: 'ERR_MODEL_UNSUPPORTED',
      exitCode: 2,
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    });
    expect((await lookAtModel(path, true)).format).toBe('unknown');
  });

  test('a link to a model: refused with the mend, and followed under its own name where it is copied', async () => {
    const link = join(dir, 'model.onnx');
    symlinkSync(digits, link);
    await expect(lookAtModel(link, false)).rejects.toMatchObject({
      code: 'ERR_MODEL_ENTRY',
      hint: expect.stringContaining('--copy'),
    });
    const { files } = await lookAtModel(link, false, true);
    expect(files.map(({ path, absolute }) => [path, absolute])).toEqual([['model.onnx', digits]]);
  });

  test('a file that ends in .onnx and is none', async () => {
    await expect(lookAtModel(model({ 'm.onnx': 'hello' }), false)).rejects.toMatchObject({
      code: 'ERR_MODEL_NOT_ONNX',
    });
  });
});

describe('an example request', () => {
  const value = (more: Partial<OnnxValue>): OnnxValue => ({ name: 'x', type: 'FLOAT', shape: [1], ...more });

  test('zeros of the right type in the right shape; 1 for any size', () => {
    const asked = exampleRequest([
      value({ name: 'ids', type: 'INT64', shape: ['batch', 3] }),
      value({ name: 'mask', type: 'BOOL', shape: [2] }),
      value({ name: 'text "q"', type: 'STRING', shape: [] }),
      value({ name: 'old', shape: [-1] }),
    ]);
    if (!('text' in asked)) throw new Error(asked.reason);
    expect(asked.dynamic).toBe(true);
    expect(JSON.parse(asked.text)).toEqual({
      inputs: [
        { name: 'ids', shape: [1, 3], datatype: 'INT64', data: [0, 0, 0] },
        { name: 'mask', shape: [2], datatype: 'BOOL', data: [false, false] },
        { name: 'text "q"', shape: [], datatype: 'BYTES', data: [''] },
        { name: 'old', shape: [1], datatype: 'FP32', data: [0] },
      ],
    });
    expect(exampleRequest([value({})])).toMatchObject({ dynamic: false });
  });

  test.each([
    ['half precision', value({ type: 'FLOAT16' }), /FLOAT16/],
    ['no shape', value({ shape: null }), /shape/],
    ['a shape of 2^50', value({ shape: [2 ** 25, 2 ** 25] }), /more values/],
    ['a shape beyond all numbers', value({ shape: Array(40).fill(2 ** 52) }), /more values/],
  ])('none: %s', (_, input, reason) => {
    expect(exampleRequest([input])).toEqual({ reason: expect.stringMatching(reason) });
  });
});

test('names', () => {
  expect(['/a/Mein Modell.onnx', 'x_y.gguf', '../--é', '/', 'a'.repeat(80)].map(projectName)).toEqual([
    ...['mein-modell', 'x-y', 'e', 'model', 'a'.repeat(64)],
  ]);
  expect([1, 1234, 1_234_567].map((n) => counted(n, 'tensor'))).toEqual([
    '1 tensor',
    '1 234 tensors',
    '1 234 567 tensors',
  ]);
  expect(['a/b.onnx', "it's", '$(x)'].map(shellWord)).toEqual(['a/b.onnx', "'it'\\''s'", "'$(x)'"]);
});

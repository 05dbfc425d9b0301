import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { beforeAll, describe, expect, test } from 'vitest';
import { readOwnerPrivateKey, readOwnerPublicKey } from '../../../src/keys/keys.ts';

const example = join(import.meta.dirname, '../../../examples/digits');
const read = (...path: string[]) => readFileSync(join(example, ...path), 'utf8');
const labels: Record<string, number> = JSON.parse(read('labels.json'));
const heldOut = read('held-out.csv')
  .trimEnd()
  .split('\n')
  .map((line) => line.split(',').map(Number));

describe('examples/digits', () => {
  let session: InferenceSession;
  beforeAll(async () => {
    session = await InferenceSession.create(join(example, 'model/digits.onnx'));
  });

  const classify = async (pixels: number[]) => {
    const outputs = await session.run({
      image: new Tensor('float32', Float32Array.from(pixels), [pixels.length / 64, 64]),
    });
    return {
      labels: Array.from(outputs.label?.data as BigInt64Array, Number),
      probabilities: Array.from(outputs.probabilities?.data as Float32Array),
    };
  };

  test('every input is one OIP v2 request for one held-out image, and is recognised', async () => {
    const names = readdirSync(join(example, 'inputs')).sort();
    expect(names).toEqual(
      Object.keys(labels)
        .map((name) => `${name}.json`)
        .sort(),
    );
    expect(names).toHaveLength(20);
    for (const name of names) {
      const request = JSON.parse(read('inputs', name));
      const label = labels[name.slice(0, 2)];
      const pixels: number[] = request.inputs[0].data;
      expect(request).toEqual({ inputs: [{ name: 'image', shape: [1, 64], datatype: 'FP32', data: pixels }] });
      expect(heldOut).toContainEqual([...pixels, label]);
      expect((await classify(pixels)).labels, name).toEqual([label]);
    }
  });

  test('twice each digit', () => {
    expect(Object.values(labels).sort()).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]);
  });

  test('the held-out accuracy is the one in the README, and at least 97 %', async () => {
    const found = await classify(heldOut.flatMap((row) => row.slice(0, 64)));
    const right = heldOut.filter((row, index) => row[64] === found.labels[index]).length;
    const percent = (100 * right) / heldOut.length;
    expect(heldOut).toHaveLength(450);
    expect(percent).toBeGreaterThanOrEqual(97);
    expect(read('README.md')).toContain(`${right} of ${heldOut.length} images: ${percent.toFixed(2)} %`);
  });

  test('probabilities sum to one and are highest at the label', async () => {
    const { labels: found, probabilities } = await classify(heldOut[0]?.slice(0, 64) ?? []);
    expect(probabilities).toHaveLength(10);
    expect(probabilities.reduce((sum, p) => sum + p)).toBeCloseTo(1, 5);
    expect(probabilities.indexOf(Math.max(...probabilities))).toBe(found[0]);
  });

  test('the model is small, and the bytes that train.py gave', () => {
    const model = readFileSync(join(example, 'model/digits.onnx'));
    expect(model.length).toBeLessThan(500_000);
    expect(createHash('sha256').update(model).digest('hex')).toBe(
      '83c4e657436da10686ff80645b4ae21e63c537c5a8f51cb15ae55e754b9e6c74',
    );
  });

  test('the demo key pair fits, and is called a demo key wherever it is named', () => {
    const { publicRaw } = readOwnerPrivateKey(Buffer.from(read('demo-owner.key')));
    expect(readOwnerPublicKey(Buffer.from(read('demo-owner.pub'))).raw).toEqual(publicRaw);
    expect(read('README.md')).toMatch(/\*\*public demo key\*\*/);
    expect(read('enclave.toml')).toMatch(/DEMO KEY[^\n]*\nowner = "demo-owner\.pub"/);
  });
});

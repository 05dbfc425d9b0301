import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { matmulChain, writeOnnx } from '../../../bench/onnx-writer.ts';
import { modelCard } from '../../../src/bom/model-card.ts';
import { describeOnnx } from '../../../src/model/onnx-describe.ts';
import { REPO, temporaryDirectory } from '../image/fixtures.ts';

const write = (bytes: Uint8Array): string => {
  const path = join(temporaryDirectory(), 'model.onnx');
  writeFileSync(path, bytes);
  return path;
};
const refused = expect.objectContaining({ code: 'ERR_MODEL_NOT_ONNX', exitCode: 2 });

// Protocol Buffers by hand: what no writer of ours makes.
const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
const field = (id: number, ...parts: (number[] | Buffer)[]): Buffer => {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  return Buffer.concat([Buffer.from([...varint(id * 8 + 2), ...varint(body.length)]), body]);
};
const number = (id: number, value: number) => Buffer.from([...varint(id * 8), ...varint(value)]);
const text = (id: number, value: string) => field(id, Buffer.from(value));
const model = (...graph: Buffer[]) => Buffer.concat([number(1, 8), field(7, ...graph), field(8, number(2, 17))]);

describe('what an ONNX file tells', () => {
  test('examples/digits', () => {
    expect(describeOnnx(join(REPO, 'examples/digits/model/digits.onnx'))).toEqual({
      irVersion: 8,
      opsets: [{ domain: 'ai.onnx', version: 17 }],
      producer: 'atoma-tee examples/digits',
      producerVersion: '1',
      inputs: [{ name: 'image', type: 'FLOAT', shape: ['batch', 64] }],
      outputs: [
        { name: 'label', type: 'INT64', shape: ['batch'] },
        { name: 'probabilities', type: 'FLOAT', shape: ['batch', 10] },
      ],
      operators: [
        { name: 'ArgMax', count: 1 },
        { name: 'Gemm', count: 2 },
        { name: 'Mul', count: 1 },
        { name: 'Relu', count: 1 },
        { name: 'Softmax', count: 1 },
      ],
      // 1 + 64 * 128 + 128 + 128 * 10 + 10
      parameters: 9611,
      externalTensors: 0,
    });
  });

  test('a chain of products: every weight counted, none read', () => {
    const path = write(matmulChain({ rows: 2, widths: [64, 300, 300, 8] }));
    const found = describeOnnx(path);
    expect(found.parameters).toBe(64 * 300 + 300 * 300 + 300 * 8 + 2 + 1 + 1);
    expect(found.operators.find(({ name }) => name === 'MatMul')?.count).toBe(3);
  });

  test('a file of many gigabytes is not read', () => {
    // A tensor whose raw data is a hole of 40 GB at the end of the file.
    const size = 40 * 2 ** 30;
    const raw = [...varint(9 * 8 + 2), ...varint(size)];
    const dims = [...number(1, 2), ...number(2, 1)];
    const tensor = [...varint(5 * 8 + 2), ...varint(dims.length + raw.length + size), ...dims, ...raw];
    const path = write(
      Buffer.from([...number(1, 8), ...varint(7 * 8 + 2), ...varint(tensor.length + size), ...tensor]),
    );
    truncateSync(path, 2 + 1 + varint(tensor.length + size).length + tensor.length + size);
    expect(describeOnnx(path).parameters).toBe(2);
  });

  test('inner graphs, functions, other domains, sparse and external tensors, initializers that are inputs', () => {
    const node = (op: string, ...more: Buffer[]) => Buffer.concat([text(4, op), ...more]);
    const tensor = (name: string, ...dims: number[]) => Buffer.concat([field(1, dims.flatMap(varint)), text(8, name)]);
    const value = (name: string) => Buffer.concat([text(1, name), field(2, field(1, number(1, 16)))]);
    const inner = Buffer.concat([field(1, node('Relu')), field(5, tensor('w2', 3))]);
    const bytes = Buffer.concat([
      model(
        field(1, node('If', field(5, text(1, 'then'), field(6, inner)))),
        field(1, node('Gelu', text(7, 'com.microsoft'))),
        field(5, tensor('w', 4, 5), number(14, 1)),
        field(15, field(1, tensor('s', 7))),
        field(11, value('w')),
        field(11, value('x')),
      ),
      field(25, text(1, 'f'), field(7, node('Relu'))),
    ]);
    expect(describeOnnx(write(bytes))).toMatchObject({
      inputs: [{ name: 'x', type: 'BFLOAT16', shape: null }],
      operators: [
        { name: 'If', count: 1 },
        { name: 'Relu', count: 2 },
        { name: 'com.microsoft.Gelu', count: 1 },
      ],
      parameters: 30,
      externalTensors: 1,
    });
  });
});

test('attack: names that drive a terminal are not so in the bill of materials', () => {
  const evil = '\u001b[2J\u001b]0;x\u0007\u202eevil';
  const input = field(11, text(1, evil), field(2, field(1, number(1, 1))));
  const card = modelCard(describeOnnx(write(model(input, field(1, text(4, evil))))));
  const said = [
    ...card.modelParameters.inputs.map(({ format }) => format),
    ...card.properties.map(({ value }) => value),
  ];
  expect(said.join('')).toContain('evil');
  expect(said.join('')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
});

describe('hostile ONNX bytes are refused', () => {
  const good = writeOnnx({
    inputs: [{ name: 'x', type: 'FP32', shape: [1] }],
    outputs: [{ name: 'y', type: 'FP32', shape: [1] }],
    nodes: [{ op: 'Relu', inputs: ['x'], outputs: ['y'] }],
  });
  const nested = (depth: number): Buffer =>
    depth === 0 ? text(2, 'end') : field(1, text(4, 'If'), field(5, field(6, nested(depth - 1))));

  test.each<[string, Buffer]>([
    ['no bytes', Buffer.alloc(0)],
    ['text', Buffer.from('hello, I am not a model')],
    ['no graph', number(1, 8)],
    ['two graphs', Buffer.concat([good, good])],
    ['a length beyond the file', Buffer.from([0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f])],
    ['a length of 2^63', Buffer.from([0x3a, ...Array(9).fill(0xff), 0x7f])],
    ['a number that does not end', Buffer.alloc(20, 0xff)],
    ['a group', model(Buffer.from([0x0b]))],
    ['field 0', model(Buffer.from([0x02, 0x00]))],
    ['graphs forty deep', model(nested(40))],
    ['more elements than can be counted', model(field(5, field(1, [...varint(2 ** 50), ...varint(2 ** 50)])))],
    ['a negative dimension', model(field(5, number(1, 0), Buffer.from([0x08, ...Array(9).fill(0xff), 0x01])))],
    ['eleven thousand inputs', model(...Array(11_000).fill(field(11, text(1, 'x'))))],
    ['eleven thousand operators', model(...Array.from({ length: 11_000 }, (_, i) => field(1, text(4, `op${i}`))))],
  ])('%s', (_what, bytes) => {
    expect(() => describeOnnx(write(bytes))).toThrow(refused);
  });

  test('cut off anywhere, or with any byte changed, it is described or refused', () => {
    const path = write(good);
    for (let length = 0; length < good.length; length++) {
      writeFileSync(path, good.subarray(0, length));
      // What comes after the graph, whole fields of it, can be missing: 6 bytes of an operator set.
      if (length !== good.length - 6) expect(() => describeOnnx(path)).toThrow(refused);
    }
    for (let at = 0; at < good.length; at++) {
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] ?? 0) ^ 0xff;
      writeFileSync(path, bytes);
      try {
        describeOnnx(path);
      } catch (error) {
        expect(error).toEqual(refused);
      }
    }
  });
});

import { describe, expect, test } from 'vitest';
import { readGguf } from '../../../src/model/gguf.ts';
import { readSafetensors, safetensorsHeaderLength } from '../../../src/model/safetensors.ts';
import { gguf, ggufStart, ggufTensor, safetensors, text, twoTensors, u32, u64 } from '../init/weights.ts';

const header = { code: 'ERR_MODEL_HEADER', exitCode: 2 };
const thrown = (read: () => unknown) => {
  try {
    return read();
  } catch (error) {
    return error;
  }
};

describe('safetensors', () => {
  const read = (bytes: Buffer, size = bytes.length) => readSafetensors(bytes, size);

  test('tensors and their elements', () => {
    expect(read(twoTensors())).toEqual({ tensors: 2, parameters: 14 });
    expect(read(safetensors({}))).toEqual({ tensors: 0, parameters: 0 });
    expect(read(safetensors({ s: { dtype: 'F64', shape: [], data_offsets: [0, 8] } }, 8))).toEqual({
      tensors: 1,
      parameters: 1,
    });
  });

  test('a dtype of tomorrow is counted', () => {
    const file = safetensors({ s: { dtype: 'F5_X', shape: [16], data_offsets: [0, 10] } }, 10);
    expect(read(file)).toEqual({ tensors: 1, parameters: 16 });
  });

  test('only the header need be there', () => {
    const file = twoTensors();
    expect(read(file.subarray(0, safetensorsHeaderLength(file, file.length)), file.length).tensors).toBe(2);
  });

  const tensor = (more: object) => safetensors({ t: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...more } }, 8);
  test.each([
    ['nothing', Buffer.alloc(0)],
    ['a length of 2^63', Buffer.from('0000000000000080', 'hex')],
    ['a header longer than the file', Buffer.concat([u64(100), Buffer.from('{}')])],
    ['a header longer than any', Buffer.concat([u64(100_000_001), Buffer.from('{}')])],
    ['no JSON', safetensors('{')],
    ['no UTF-8', Buffer.concat([u64(3), Buffer.from([0x22, 0xff, 0x22])])],
    ['a list', safetensors([])],
    ['a tensor that is null', safetensors({ t: null })],
    ['a negative size', tensor({ shape: [-2] })],
    ['a fraction of a size', tensor({ shape: [1.5] })],
    ['sizes whose product is no integer', tensor({ shape: [2 ** 40, 2 ** 40] })],
    ['offsets beyond the file', tensor({ data_offsets: [8, 16] })],
    ['offsets the wrong way round', tensor({ data_offsets: [8, 0] })],
    ['three offsets', tensor({ data_offsets: [0, 8, 8] })],
    ['fewer bytes than elements need', tensor({ shape: [3] })],
  ])('refused: %s', (_, bytes) => {
    expect(thrown(() => read(bytes))).toMatchObject(header);
  });
});

describe('GGUF', () => {
  const read = (bytes: Buffer, size = bytes.length) => readGguf(bytes, size);

  test('architecture, tensors and their elements', () => {
    expect(read(gguf())).toEqual({ tensors: 2, parameters: 38, architecture: 'llama' });
  });

  test('cut off anywhere in its header it is refused, and with more of the file to come it is not known', () => {
    const whole = gguf();
    const end = whole.length - 64;
    for (let length = 0; length < end; length++) {
      expect(thrown(() => read(whole.subarray(0, length)))).toMatchObject(header);
      expect(read(whole.subarray(0, length), whole.length)).toBeNull();
    }
    expect(read(whole.subarray(0, end))).not.toBeNull();
  });

  const deep = Buffer.concat([ggufStart(0, 1), text('k'), u32(9), ...Array(10).fill(Buffer.concat([u32(9), u64(1)]))]);
  test.each([
    ['another magic', Buffer.concat([Buffer.from('GGML'), gguf().subarray(4)])],
    ['version 1', ggufStart(0, 0, 1)],
    ['big-endian', ggufStart(0, 0, 0x03000000)],
    ['more tensors than can be counted', ggufStart(2n ** 64n - 1n, 0)],
    ['as many tensors as a length can say', ggufStart(2 ** 52, 0)],
    ['a string as long as a length can say', Buffer.concat([ggufStart(0, 1), u64(2n ** 64n - 1n)])],
    ['a type that is none', Buffer.concat([ggufStart(0, 1), text('k'), u32(13), u64(0)])],
    ['an array of 2^52 items', Buffer.concat([ggufStart(0, 1), text('k'), u32(9), u32(10), u64(2 ** 52)])],
    ['arrays in arrays without end', deep],
    ['five dimensions', Buffer.concat([ggufStart(1, 0), ggufTensor('t', [1, 1, 1, 1, 1])])],
    ['more elements than can be counted', Buffer.concat([ggufStart(1, 0), ggufTensor('t', [2 ** 30, 2 ** 30])])],
    ['a name of 70 000 bytes', Buffer.concat([ggufStart(1, 0), ggufTensor('t'.repeat(70_000), [1])])],
  ])('refused: %s', (_, bytes) => {
    expect(thrown(() => read(bytes))).toMatchObject(header);
  });
});

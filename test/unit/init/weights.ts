/** Files of weights, written from the formats' descriptions. */

export function safetensors(header: unknown, payload = 0): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(payload)]);
}

/** Two tensors, 14 elements, 44 bytes. */
export const twoTensors = () =>
  safetensors(
    {
      __metadata__: { format: 'pt' },
      'a.weight': { dtype: 'F32', shape: [2, 4], data_offsets: [0, 32] },
      'b.bias': { dtype: 'BF16', shape: [6], data_offsets: [32, 44] },
    },
    44,
  );

export const u32 = (n: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(n);
  return bytes;
};
export const u64 = (n: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(n));
  return bytes;
};
export const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

export const ggufStart = (tensors: number | bigint, pairs: number | bigint, version = 3) =>
  Buffer.concat([Buffer.from('GGUF'), u32(version), u64(tensors), u64(pairs)]);

export const ggufTensor = (name: string, dimensions: (number | bigint)[]) =>
  Buffer.concat([text(name), u32(dimensions.length), ...dimensions.map(u64), u32(0), u64(0)]);

/** Architecture "llama", a vocabulary, a nested array, two tensors, 38 elements. */
export const gguf = () =>
  Buffer.concat([
    ggufStart(2, 4),
    ...[text('general.architecture'), u32(8), text('llama')],
    ...[text('tokenizer.ggml.tokens'), u32(9), u32(8), u64(3), text('<s>'), text('a'), text('')],
    ...[text('nested'), u32(9), u32(9), u64(1), u32(4), u64(2), u32(1), u32(2)],
    ...[text('general.quantized'), u32(7), Buffer.from([1])],
    ...[ggufTensor('token_embd.weight', [4, 8]), ggufTensor('norm', [6])],
    Buffer.alloc(64),
  ]);

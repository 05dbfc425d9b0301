/** How many bytes of a file `modelFormat` wants. */
export const FORMAT_BYTES = 16;

/**
 * What a file seems to be, from its first bytes: for people, decides nothing. GGUF: ggml's gguf.md; safetensors: its README (a length of
 * at most 100 MB, then JSON); ONNX has no magic, so the name counts too.
 */
export function modelFormat(path: string, head: Uint8Array): string | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length);
  const text = bytes.toString('latin1');
  if (bytes.length >= 8 && text.startsWith('GGUF')) return `GGUF version ${bytes.readUInt32LE(4)}`;
  if (bytes.length >= 9 && bytes.readBigUInt64LE(0) <= 100_000_000n && bytes[8] === 0x7b) return 'safetensors';
  if (bytes[0] === 0x08 && path.endsWith('.onnx')) return 'ONNX';
  if (text.startsWith('PK\x03\x04')) return 'ZIP (PyTorch, Keras or NumPy)';
  if (text.startsWith('\x89HDF\r\n\x1a\n')) return 'HDF5';
  return undefined;
}

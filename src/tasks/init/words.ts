/** "1 tensor", "12 345 tensors". */
export const counted = (n: number, what: string): string =>
  `${String(n).replace(/\B(?=(\d{3})+$)/g, ' ')} ${what}${n === 1 ? '' : 's'}`;

/** A project's name out of a file's or a directory's: [a-z0-9][a-z0-9-]*, at most 64. */
export function projectName(path: string): string {
  const stem = path.replace(/\/+$/, '').split('/').at(-1) ?? '';
  const plain = stem
    .replace(/\.(onnx|safetensors|gguf)$/i, '')
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '');
  return plain.slice(0, 64).replace(/-+$/, '') || 'model';
}

/** A word of a POSIX shell's command line. */
export const shellWord = (text: string): string =>
  /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

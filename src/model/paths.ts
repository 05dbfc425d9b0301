/**
 * Why `path` cannot name a file of a model, or null if it can: relative, `/`-separated, NFC, no `.` or `..`, nothing that a
 * terminal or another system would read as something else. Pure; used on disk listings and on the index of a sealed model alike.
 */
export function badPath(path: string): string | null {
  if (path === '') return 'is empty';
  if (!path.isWellFormed()) return 'is not valid Unicode';
  if (Buffer.byteLength(path) > 4096) return 'is longer than 4096 bytes';
  if (path.normalize('NFC') !== path) return 'is not in Unicode NFC form';
  if (path.startsWith('/')) return 'is absolute';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f-\u009f\\]/.test(path)) return 'has a control character or a backslash';
  for (const part of path.split('/')) {
    if (part === '') return 'has an empty component';
    if (part === '.' || part === '..') return `has a component "${part}"`;
    if (Buffer.byteLength(part) > 255) return 'has a component longer than 255 bytes';
  }
  return null;
}

/**
 * Why the paths cannot lie in one directory, or null: two that differ only in case, or one that is a directory of another. All have
 * passed badPath.
 */
export function badPathSet(paths: string[]): string | null {
  // Upper case first: a final sigma, a long s and a sharp s have no lower case of their own.
  const fold = (path: string) => path.toUpperCase().toLowerCase().normalize('NFC');
  const files = new Map<string, string>();
  for (const path of paths) {
    const other = files.get(fold(path));
    if (other === path) return `"${path}" stands there twice`;
    if (other !== undefined) return `"${other}" and "${path}" differ only in case`;
    files.set(fold(path), path);
  }
  const directories = new Map<string, string>();
  for (const path of paths) {
    for (let i = path.indexOf('/'); i !== -1; i = path.indexOf('/', i + 1)) {
      const directory = path.slice(0, i);
      const file = files.get(fold(directory));
      if (file !== undefined) return `"${file}" is both a file and a directory`;
      const other = directories.get(fold(directory));
      if (other !== undefined && other !== directory) return `"${other}/" and "${directory}/" differ only in case`;
      directories.set(fold(directory), directory);
    }
  }
  return null;
}

/** By code point, which is the order of UTF-8 bytes and of Python strings, and so of OpenSSF Model Signing. */
export function comparePaths(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return codePointRank(x) - codePointRank(y);
  }
  return a.length - b.length;
}

/** Of a UTF-16 unit: surrogates stand for code points above all others. */
const codePointRank = (unit: number): number => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800);

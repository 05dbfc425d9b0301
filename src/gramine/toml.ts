import { parse, TomlDate, TomlError } from 'smol-toml';
import { usageError } from '../core/errors.ts';
import { pythonDates } from './toml-dates.ts';
import { isTable, losesItsPlace, type ManifestTable } from './toml-values.ts';
import { keyOrderError } from './toml-write.ts';

export { ManifestDate, type ManifestTable } from './toml-values.ts';
export { encodeManifest } from './toml-write.ts';

/** Bytes of UTF-8. A trusted file takes about 150: room for 400,000 of them. */
export const MAX_MANIFEST = 64 << 20;
/** Tables and arrays in each other. Gramine's own go three deep; also bounds the recursion of what walks them. */
const MAX_DEPTH = 64;

/**
 * Reads the text of a manifest. Pure; `file` is only for error texts. Line ends of Windows and old Macs become "\n", as Python
 * reads text files (and tomli after it).
 *
 * Errors: `ERR_GRAMINE_SYNTAX` with line and column; `ERR_GRAMINE_KEY_ORDER` for numbers as keys beside others, whose place
 * JavaScript does not keep; `ERR_FILE_TOO_LARGE`.
 */
export function parseManifest(text: string, file: string): ManifestTable {
  if (Buffer.byteLength(text) > MAX_MANIFEST) {
    throw usageError('ERR_FILE_TOO_LARGE', `${file}: expected a manifest of at most ${MAX_MANIFEST} bytes`);
  }
  const source = text.replace(/\r\n?/g, '\n');
  let table: ManifestTable;
  try {
    table = parse(source, { integersAsBigInt: true, maxDepth: MAX_DEPTH });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const why = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '') ?? 'error';
    throw usageError('ERR_GRAMINE_SYNTAX', `${file}:${error.line}:${error.column}: not TOML: ${why}`);
  }
  return keep(table, source, file);
}

/** Checks depth and key order, and gives dates Python's text; a loop and no recursion, as the depth is yet unknown. */
function keep(root: ManifestTable, source: string, file: string): ManifestTable {
  let dates: ReturnType<typeof pythonDates> | undefined;
  const left: { value: ManifestTable | unknown[]; depth: number; name: string }[] = [
    { value: root, depth: 0, name: '' },
  ];
  for (let next = left.pop(); next; next = left.pop()) {
    const { value, depth, name } = next;
    if (depth > MAX_DEPTH)
      throw usageError('ERR_GRAMINE_SYNTAX', `${file}: expected at most ${MAX_DEPTH} tables in each other`);
    const keys = Object.keys(value);
    if (!Array.isArray(value) && keys.length > 1) {
      const lost = keys.find(losesItsPlace);
      if (lost !== undefined) throw keyOrderError(lost, name);
    }
    for (const key of keys) {
      const child = (value as ManifestTable)[key];
      if (child instanceof TomlDate) {
        dates ??= pythonDates(source);
        const date = dates(child);
        if (date === null) {
          throw usageError(
            'ERR_GRAMINE_SYNTAX',
            `${file}: expected a date of the calendar that is written one way only, found ${child.toISOString()} at ${name}.${key}`,
          );
        }
        (value as ManifestTable)[key] = date;
      } else if (Array.isArray(child) || isTable(child)) {
        left.push({ value: child, depth: depth + 1, name: name === '' ? key : `${name}.${key}` });
      }
    }
  }
  return root;
}

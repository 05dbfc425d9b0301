import { isTable, ManifestDate, type ManifestTable } from '../gramine/toml-values.ts';

/** Every value of a manifest by its key, "sgx.enclave_size", "loader.argv[1]"; trusted files are left to their own comparison. */
export function flatSettings(table: ManifestTable): Map<string, string> {
  const all = new Map<string, string>();
  const walk = (value: unknown, key: string): void => {
    if (key === 'sgx.trusted_files') return;
    if (Array.isArray(value)) {
      if (value.length === 0) all.set(key, '[]');
      for (const [i, item] of value.entries()) walk(item, `${key}[${i}]`);
    } else if (isTable(value) && !(value instanceof ManifestDate)) {
      const keys = Object.keys(value);
      if (keys.length === 0) all.set(key, '{}');
      for (const name of keys) walk(value[name], key === '' ? quoted(name) : `${key}.${quoted(name)}`);
    } else all.set(key, shown(value));
  };
  walk(table, '');
  return all;
}

const quoted = (name: string): string => (/^[\w-]+$/.test(name) ? name : JSON.stringify(name));
const shown = (value: unknown): string => (typeof value === 'string' ? JSON.stringify(value) : String(value));

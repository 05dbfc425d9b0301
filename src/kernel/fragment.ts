import { usageError } from '../core/errors.ts';

/**
 * What a kernel configuration has to say: symbols without "CONFIG_", and their values as Kconfig writes them ("y", "64",
 * "\"text\""); null stands for "is not set".
 */
export type Fragment = Map<string, string | null>;

/** A symbol that is not what the fragment asks for. */
export interface Unmet {
  symbol: string;
  wanted: string;
  found: string;
}

const SET = /^CONFIG_([A-Z0-9a-z_]+)=(y|m|-?\d+|0x[0-9a-fA-F]+|"[^"\\]*")$/;
const UNSET = /^# CONFIG_([A-Z0-9a-z_]+) is not set$/;

/**
 * Reads a fragment: lines as in a kernel's .config, comments, empty lines. Anything else is an error, and so is a symbol
 * named twice: Kconfig would pass over both in silence. Throws `ERR_KERNEL_CONFIG` (exit 2).
 */
export function parseFragment(text: string): Fragment {
  const fragment: Fragment = new Map();
  for (const [index, line] of text.split('\n').entries()) {
    const set = SET.exec(line);
    const symbol = set?.[1] ?? UNSET.exec(line)?.[1];
    if (symbol === undefined) {
      if (line.trim() === '' || (line.startsWith('#') && !line.includes('CONFIG_'))) continue;
      throw usageError(
        'ERR_KERNEL_CONFIG',
        `kernel.config:${index + 1}: expected CONFIG_NAME=value or "# CONFIG_NAME is not set", found ${JSON.stringify(line.slice(0, 80))}`,
      );
    }
    if (fragment.has(symbol)) {
      throw usageError('ERR_KERNEL_CONFIG', `kernel.config:${index + 1}: expected ${symbol} once, found it twice`);
    }
    fragment.set(symbol, set?.[2] ?? null);
  }
  return fragment;
}

/** The same fragment in its one form: sorted, without comments. So a comment can change without a new kernel. */
export const encodeFragment = (fragment: Fragment): string =>
  [...fragment]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([symbol, value]) => (value === null ? `# CONFIG_${symbol} is not set\n` : `CONFIG_${symbol}=${value}\n`))
    .join('');

/** The symbols that a finished .config does not give the fragment's values. A symbol that it lacks is not set. */
export function unmetSymbols(fragment: Fragment, config: string): Unmet[] {
  const values = new Map<string, string>();
  for (const line of config.split('\n')) {
    const [, symbol, value] = /^CONFIG_([A-Z0-9a-z_]+)=(.*)$/.exec(line) ?? [];
    if (symbol !== undefined && value !== undefined) values.set(symbol, value);
  }
  const text = (value: string | null | undefined) => value ?? 'not set';
  return [...fragment]
    .map(([symbol, value]) => ({ symbol, wanted: text(value), found: text(values.get(symbol)) }))
    .filter(({ wanted, found }) => wanted !== found);
}

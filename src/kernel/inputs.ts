import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { type LockEntry, lockEntries, parseBase } from '../image/lock-file.ts';
import { TOOLKIT_DIR } from '../image/toolkit.ts';
import { encodeFragment, type Fragment, parseFragment } from './fragment.ts';
import type { ToolVersions } from './tools.ts';

const TEMPLATES = join(TOOLKIT_DIR, 'templates', 'nitro');

/** Raised when the way in which kernels are built changes their bytes. */
const RECIPE = 1;

/** What this toolkit builds its kernel from: templates/nitro/kernel.lock.toml and kernel.config. */
export interface KernelRecipe {
  /** Debian's package of the source, pinned. */
  source: LockEntry;
  fragment: Fragment;
  /** Variables of the kernel's makefiles that would otherwise be this machine's and this minute's. */
  variables: Record<string, string>;
}

/** Everything that the bytes of a kernel follow from. */
export interface KernelInputs {
  recipe: number;
  source: { name: string; version: string; sha256: string };
  /** SHA-256 of the fragment in its one form. */
  config: string;
  variables: Record<string, string>;
  tools: ToolVersions;
}

export async function loadRecipe(dir: string = TEMPLATES): Promise<KernelRecipe> {
  const read = (name: string) => readFile(join(dir, name), 'utf8');
  const lock = parseBase(await read('kernel.lock.toml'), 'kernel.lock.toml');
  const [source, ...more] = lockEntries(lock);
  if (source?.kind !== 'deb' || more.length > 0) throw new TypeError('kernel.lock.toml: expected one Debian package');
  const built = new Date(lock.timestamp * 1000).toISOString().replace('T', ' ').replace('.000Z', ' UTC');
  return {
    source,
    fragment: parseFragment(await read('kernel.config')),
    variables: {
      KBUILD_BUILD_TIMESTAMP: built,
      KBUILD_BUILD_USER: 'atoma-tee',
      KBUILD_BUILD_HOST: 'atoma-tee',
      KBUILD_BUILD_VERSION: '1',
      LOCALVERSION: '',
      SOURCE_DATE_EPOCH: String(lock.timestamp),
    },
  };
}

export function kernelInputs({ source, fragment, variables }: KernelRecipe, tools: ToolVersions): KernelInputs {
  if (source.kind !== 'deb') throw new TypeError('the source of a kernel is a Debian package');
  const { name, version, sha256: digest } = source;
  return {
    recipe: RECIPE,
    source: { name, version, sha256: digest },
    config: hex(sha256(Buffer.from(encodeFragment(fragment)))),
    variables,
    tools,
  };
}

/** Names a kernel in the cache, and in a lock: SHA-256 (hex) of the inputs as JSON with sorted keys. */
export const inputDigest = (inputs: KernelInputs): string => hex(sha256(Buffer.from(sortedJson(inputs))));

const sortedJson = (value: unknown): string =>
  JSON.stringify(value, (_, item: unknown) =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );

import { realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { usageError } from './errors.ts';

/** Whether two paths lead to one file that is there, by whatever names. */
export async function isSameFile(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([a, b].map((path) => stat(path, { bigint: true }).catch(() => null)));
  return one != null && other != null && one.ino === other.ino && one.dev === other.dev;
}

/**
 * An output may not take the place of what it is made from, nor may its FILE.partial: a key or a model would be gone. A directory among
 * `inputs` stands for what is in it. Throws `ERR_OUTPUT_INPUT` (exit 2).
 */
export async function requireOtherThan(out: string, inputs: (string | undefined)[]): Promise<void> {
  const where = await realpath(dirname(out)).catch(() => null);
  for (const input of inputs) {
    if (input === undefined) continue;
    const isDirectory = (await stat(input).catch(() => null))?.isDirectory() ?? false;
    const directory = isDirectory ? await realpath(input) : null;
    const inside = where !== null && directory !== null && `${where}/`.startsWith(`${directory}/`);
    if (inside || (await isSameFile(out, input)) || (await isSameFile(`${out}.partial`, input))) {
      throw usageError(
        'ERR_OUTPUT_INPUT',
        `expected another place for the output than ${inside ? 'in ' : ''}${input}, which it is made from; found ${out}`,
        { hint: 'another --out' },
      );
    }
  }
}

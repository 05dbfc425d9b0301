import { createHash, type Hash } from 'node:crypto';
import { badArchive as bad } from './cpio-format.ts';
import { type CpioEntry, CpioReader, type CpioReadOptions } from './cpio-read.ts';

/** Every entry of an archive in order, with the SHA-256 (hex) of each file. */
export async function listCpio(
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  options?: CpioReadOptions,
): Promise<(CpioEntry & { sha256?: string })[]> {
  const list: (CpioEntry & { sha256?: string })[] = [];
  let hash: Hash | undefined;
  const reader = new CpioReader(
    {
      entry: (entry) => {
        list.push(entry);
        hash = entry.type === 'file' ? createHash('sha256') : undefined;
      },
      data: (chunk) => hash?.update(chunk),
      done: () => {
        const last = list.at(-1);
        if (last && hash) last.sha256 = hash.digest('hex');
      },
    },
    options,
  );
  for await (const chunk of chunks) reader.write(chunk);
  reader.end();
  return list;
}

/**
 * A sink that keeps one small file of the archive that goes by, for `streamEif`. `content()` is null if there is none;
 * call it after `end`. Throws `ERR_CPIO_TOO_LARGE` (exit 2) if the file has more than `maxBytes`.
 */
export function cpioFileSink(path: string, maxBytes: number, options?: CpioReadOptions) {
  let wanted = false;
  let found: Buffer[] | null = null;
  const reader = new CpioReader(
    {
      entry: (entry) => {
        wanted = entry.path === path && entry.type === 'file';
        if (!wanted) return;
        if (entry.size > maxBytes) {
          throw bad('TOO_LARGE', `${path}: expected at most ${maxBytes} bytes, found ${entry.size}`);
        }
        found = [];
      },
      data: (chunk) => {
        if (wanted) found?.push(Buffer.from(chunk));
      },
      done: () => {},
    },
    options,
  );
  return {
    write: (chunk: Uint8Array) => reader.write(chunk),
    end: () => reader.end(),
    content: (): Buffer | null => found && Buffer.concat(found),
  };
}

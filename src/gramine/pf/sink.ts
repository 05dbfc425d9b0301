import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { UnsealSink } from '../../seal/index.ts';
import type { IndexFile } from '../../seal/index-part.ts';
import { normalisePath, pathBytes } from './layout.ts';
import type { PfVersion } from './metadata.ts';
import { ProtectedFileWriter } from './writer.ts';

/**
 * Where unsealFile writes protected files instead of plain ones: plaintext goes from the decryption to the encryption in memory.
 * Each is made for the path `prefix`/its path in the model. Throws `ERR_PF_NAME`, `ERR_PF_SIZE` (exit 2) before anything is written.
 */
export function protectedFilesSink(
  directory: string,
  files: IndexFile[],
  options: { wrapKey: Uint8Array; prefix: string; version: PfVersion },
): UnsealSink {
  const { wrapKey, prefix, version } = options;
  const pathFor = (file: IndexFile) => normalisePath(prefix === '' ? file.path : `${prefix}/${file.path}`);
  for (const file of files) pathBytes(pathFor(file));
  let handle: FileHandle | null = null;
  const end = async () => {
    await handle?.close();
    handle = null;
  };
  return {
    async open(file) {
      const target = await open(join(directory, file.path), 'wx+', 0o600);
      handle = target;
      const writer = new ProtectedFileWriter(target, { wrapKey, path: pathFor(file), size: file.size, version });
      return {
        write: (chunk) => writer.write(chunk),
        async close() {
          await writer.finish();
          // Gramine opens protected files for writing, also those that a program only reads.
          await target.chmod(file.mode | 0o600);
          await end();
        },
      };
    },
    end,
  };
}

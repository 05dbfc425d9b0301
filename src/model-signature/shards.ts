import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { usageError } from '../core/errors.ts';
import { fileIdentity } from '../model/identity.ts';
import type { ModelFile } from '../model/index.ts';

const BUFFER = 4 << 20;

/** The names of a file's shards, "PATH:START:END", and their ranges; an empty file has none (section 6.3.2). */
function shardsOf(name: string, size: number, shardSize: number): { name: string; start: number; end: number }[] {
  return Array.from({ length: Math.ceil(size / shardSize) }, (_, i) => {
    const [start, end] = [i * shardSize, Math.min(size, (i + 1) * shardSize)];
    return { name: `${name}:${start}:${end}`, start, end };
  });
}

/** SHA-256 of each shard of a file by the shard's name, hex; one pass. Throws `ERR_MODEL_CHANGED` (exit 2). */
export async function digestShards(
  name: string,
  file: ModelFile,
  shardSize: number,
  onBytes?: (count: number) => void,
): Promise<[name: string, sha256: string][]> {
  const changed = () => usageError('ERR_MODEL_CHANGED', `the model file ${file.path} changed while it was read`);
  const handle = await open(file.absolute, 'r');
  try {
    const unchanged = async () => fileIdentity(await handle.stat({ bigint: true })) === file.identity;
    if (!(await unchanged())) throw changed();
    const buffer = Buffer.alloc(Math.min(BUFFER, file.size));
    const digests: [string, string][] = [];
    for (const shard of shardsOf(name, file.size, shardSize)) {
      const hash = createHash('sha256');
      for (let at = shard.start; at < shard.end; ) {
        const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, shard.end - at), at);
        if (bytesRead === 0) throw changed();
        hash.update(buffer.subarray(0, bytesRead));
        onBytes?.(bytesRead);
        at += bytesRead;
      }
      digests.push([shard.name, hash.digest('hex')]);
    }
    if (!(await unchanged())) throw changed();
    return digests;
  } finally {
    await handle.close();
  }
}

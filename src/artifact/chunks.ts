import { read } from 'node:fs';
import { promisify } from 'node:util';
import { truncated } from '../seal/errors.ts';

const CHUNK = 1 << 20;
const readInto = promisify(read);

/**
 * A range of a file in chunks of 1 MiB, each good only until the next is asked for: two buffers take turns, one is filled while the
 * other is used, and nothing is left to the garbage collector. Throws `ERR_SEAL_TRUNCATED` (exit 2) where the file ends before.
 */
export async function* chunksOf(fd: number, offset: number, length: number): AsyncGenerator<Buffer> {
  const size = Math.min(CHUNK, length);
  const buffers = [Buffer.allocUnsafe(size), Buffer.allocUnsafe(length > CHUNK ? size : 0)] as const;
  const fetch = (at: number) => {
    const wanted = buffers[(at / CHUNK) % 2 === 0 ? 0 : 1].subarray(0, Math.min(CHUNK, length - at));
    const filling = fill(fd, wanted, offset + at);
    // Whoever leaves early does not come back for its failure.
    filling.catch(() => {});
    return filling;
  };
  let next = length > 0 ? fetch(0) : null;
  for (let at = CHUNK; next !== null; at += CHUNK) {
    const chunk: Buffer = await next;
    next = at < length ? fetch(at) : null;
    yield chunk;
  }
}

async function fill(fd: number, into: Buffer, position: number): Promise<Buffer> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await readInto(fd, into, done, into.length - done, position + done);
    if (bytesRead === 0) throw truncated(`expected ${into.length} bytes at ${position}, found ${done}`);
    done += bytesRead;
  }
  return into;
}

import { join } from 'node:path';
import { FLOE_HEADER_LENGTH } from './floe.ts';
import type { ParsedHeader } from './header.ts';
import type { SealIndex } from './index-part.ts';
import type { ByteSource } from './open.ts';
import { checkDigest, digestOf } from './open.ts';
import type { RingView } from './ring.ts';
import { checkContentKey, partAad } from './secrets.ts';
import { readInto } from './source.ts';
import { checkPadding, stepLength, steps } from './steps.ts';
import { type RunOptions, runJob } from './threads.ts';

/**
 * Decrypts everything into files below `directory`, whose directories are there; empty files are not made, the others come to be with mode
 * 0600. What extract() does in one thread: here this one reads the source, two others decrypt and digest. They cost about 15 MiB of memory
 * each. Errors and result as extract(); what is in the files is good only when this has returned.
 */
export async function extractOnThreads(
  source: ByteSource,
  parsed: ParsedHeader,
  index: SealIndex,
  ck: Uint8Array,
  directory: string,
  run: RunOptions,
): Promise<{ digest: string }> {
  checkContentKey(parsed.header, ck);
  const headers = index.parts.map(() => new Uint8Array(new SharedArrayBuffer(FLOE_HEADER_LENGTH)));
  const digests = await runJob(
    {
      direction: 'stream',
      fd: -1,
      files: index.files.map(({ path, size }) => ({ path: join(directory, path), size })),
      fileSizes: index.files.map(({ size }) => size),
      hash: new Uint8Array(index.files.length).fill(1),
      parts: index.parts.map(({ id, key, length }, i) => ({
        aad: partAad(id, length),
        key,
        header: headers[i] ?? new Uint8Array(0),
        length,
        offset: 0,
      })),
      pieces: index.pieces,
    },
    { ...run, feed: (ring) => feed(source, parsed, index, headers, ring) },
  );
  for (const [i, file] of index.files.entries()) checkDigest(file, digests[i] ?? Buffer.alloc(0));
  return { digest: digestOf(index) };
}

/** Reads the payload in order into the ring's slots. */
async function feed(
  source: ByteSource,
  parsed: ParsedHeader,
  index: SealIndex,
  headers: Uint8Array[],
  ring: RingView,
): Promise<void> {
  let segment = 0;
  for (const step of steps(parsed, index.parts)) {
    if (!(await ring.waitFree(segment))) return;
    const bytes = ring.slot(segment++, stepLength(step));
    await readInto(source, step.at, bytes);
    if (step.position === 0) headers[step.part]?.set(bytes.subarray(0, step.header));
    checkPadding(bytes, step);
    ring.markFilled();
  }
}

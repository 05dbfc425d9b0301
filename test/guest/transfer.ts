import { createHash } from 'node:crypto';
import { type Duplex, Readable } from 'node:stream';

/** A megabyte of bytes that differ from the next one's and from another stream's. */
const piece = (stream: number, index: number): Buffer => {
  const bytes = Buffer.alloc(1 << 20, `${stream}/${index}/`);
  bytes.writeUInt32BE(index, 0);
  return bytes;
};

function* pieces(stream: number, count: number): Generator<Buffer> {
  for (let index = 0; index < count; index++) yield piece(stream, index);
}

/** Digest of what `send` sends. */
export function digestOf(stream: number, megabytes: number): string {
  const hash = createHash('sha256');
  for (const bytes of pieces(stream, megabytes)) hash.update(bytes);
  return hash.digest('hex');
}

/** Writes so many megabytes, and then ends our half unless told otherwise. */
export const send = (to: Duplex, stream: number, megabytes: number, end = true): void => {
  Readable.from(pieces(stream, megabytes), { objectMode: false, highWaterMark: 1 << 20 }).pipe(to, { end });
};

/** The digest of everything until the other half ends, or until so much has come. */
export function receive(from: Duplex, megabytes = Number.POSITIVE_INFINITY): Promise<string> {
  const hash = createHash('sha256');
  let left = megabytes * (1 << 20);
  return new Promise((resolve, reject) => {
    from.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      left -= chunk.length;
      if (left === 0) resolve(hash.digest('hex'));
    });
    from.once('end', () => left !== 0 && resolve(hash.digest('hex')));
    from.once('error', reject);
    from.resume();
  });
}

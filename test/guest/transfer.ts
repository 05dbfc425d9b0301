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

/** Writes so many megabytes and ends our half. */
export const send = (to: Duplex, stream: number, megabytes: number): void => {
  Readable.from(pieces(stream, megabytes), { objectMode: false, highWaterMark: 1 << 20 }).pipe(to);
};

/** The digest of everything until the other half ends. */
export function receive(from: Duplex): Promise<string> {
  const hash = createHash('sha256');
  from.on('data', (chunk: Buffer) => hash.update(chunk));
  from.resume();
  return new Promise((resolve, reject) => {
    from.once('end', () => resolve(hash.digest('hex')));
    from.once('error', reject);
  });
}

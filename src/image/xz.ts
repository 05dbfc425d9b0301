import { Readable } from 'node:stream';

/** Decompresses xz. One stream at a time per thread: the library makes a second one wait for the end of the first. */
export async function unxz(source: Readable): Promise<Readable> {
  const { XzReadableStream } = (await import('xz-decompress')).default;
  return Readable.fromWeb(new XzReadableStream(Readable.toWeb(source)) as Parameters<typeof Readable.fromWeb>[0]);
}

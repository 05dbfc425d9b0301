import { type ClientHttp2Session, type ClientHttp2Stream, constants } from 'node:http2';
import { AtomaError, usageError } from '../core/errors.ts';
import { call, exactReader } from './http2.ts';

/** The sealed model as the host hands it over: a `ByteSource` of src/seal. */
export interface ModelStream {
  size: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Fills `into` from `offset`. */
  readInto(offset: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/**
 * Reads in order come from one long response, so that the next bytes are under way while these are decrypted; a read
 * from elsewhere starts another. What the host sends is not believed: the seal authenticates every byte.
 */
export async function openModelStream(session: ClientHttp2Session): Promise<ModelStream> {
  const { status, headers } = await call(session, { method: 'HEAD', path: '/model' });
  const size = Number(headers['content-length']);
  if (status !== 200 || !Number.isSafeInteger(size)) {
    throw new AtomaError('unexpected', 'ERR_ENCLAVE_HOST', 'the host did not offer a sealed model');
  }
  let stream: ClientHttp2Stream | undefined;
  let next: ReturnType<typeof exactReader> | undefined;
  let at = 0;
  const restart = (offset: number): ReturnType<typeof exactReader> => {
    stream?.close(constants.NGHTTP2_CANCEL);
    stream = session.request({ ':method': 'GET', ':path': '/model', range: `bytes=${offset}-` });
    stream.on('error', () => {});
    at = offset;
    return exactReader(stream);
  };
  const readInto = async (offset: number, into: Uint8Array): Promise<void> => {
    const { length } = into;
    if (length === 0) return;
    if (next === undefined || offset !== at) next = restart(offset);
    if (!(await next(into))) {
      throw usageError('ERR_SEAL_TRUNCATED', `the sealed model ended within the ${length} bytes at ${offset}`);
    }
    at += length;
  };
  return {
    size,
    readInto,
    async read(offset, length) {
      const bytes = Buffer.allocUnsafe(length);
      await readInto(offset, bytes);
      return bytes;
    },
    async close() {
      stream?.close(constants.NGHTTP2_CANCEL);
    },
  };
}

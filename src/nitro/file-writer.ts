import { crc32 } from 'node:zlib';
import type { AtomicFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { crc32Combine } from './crc.ts';
import { CRC_AT, EIF_HEADER } from './layout.ts';

const BUFFER_BYTES = 1 << 20;

/**
 * Writes an image from behind its header to the end, gathering small pieces; one buffer is filled while the other is
 * written. The header comes last, for what it says may depend on all the rest.
 */
export class EifFileWriter {
  readonly #file: AtomicFile;
  readonly #total: number;
  readonly #onProgress: OnProgress | undefined;
  #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #spare = Buffer.allocUnsafe(BUFFER_BYTES);
  #filled = 0;
  #at = EIF_HEADER;
  #crc = 0;
  #pending: Promise<unknown> = Promise.resolve();

  /** `total` is for progress alone. */
  constructor(file: AtomicFile, total: number, onProgress: OnProgress | undefined) {
    this.#file = file;
    this.#total = total;
    this.#onProgress = onProgress;
  }

  /** The bytes are copied before this resolves. */
  async write(chunk: Uint8Array): Promise<void> {
    for (let done = 0; done < chunk.length; ) {
      const piece = chunk.subarray(done, done + this.#buffer.length - this.#filled);
      this.#buffer.set(piece, this.#filled);
      this.#filled += piece.length;
      done += piece.length;
      if (this.#filled === this.#buffer.length) await this.#flush();
    }
  }

  /** Writes the header, whose last field becomes the CRC of everything else. */
  async finish(header: Buffer): Promise<void> {
    await this.#flush();
    await this.#pending;
    header.writeUInt32BE(crc32Combine(crc32(header.subarray(0, CRC_AT)), this.#crc, this.#at - EIF_HEADER), CRC_AT);
    await writeAll(this.#file, header, 0);
  }

  async #flush(): Promise<void> {
    const bytes = this.#buffer.subarray(0, this.#filled);
    this.#crc = crc32(bytes, this.#crc);
    await this.#pending;
    this.#pending = writeAll(this.#file, bytes, this.#at);
    // Awaited at the next flush; until then a failure must not count as unhandled.
    this.#pending.catch(() => {});
    [this.#buffer, this.#spare] = [this.#spare, this.#buffer];
    this.#at += this.#filled;
    this.#filled = 0;
    this.#onProgress?.({ phase: 'writing', done: this.#at, total: this.#total });
  }
}

async function writeAll({ handle }: AtomicFile, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}

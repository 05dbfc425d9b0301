import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { usageError } from '../core/errors.ts';
import { type AtomicFile, ioError, withAtomicFile } from '../core/files.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { CRC_AT, EIF_HEADER, type EifArch, type EifSectionType, planEif } from './layout.ts';
import { fileSource } from './source.ts';
import { requireCrc, streamEif } from './stream.ts';

/** Bytes of a known length, produced once. A `CpioArchive` is one. */
export interface EifPart {
  size: number;
  chunks(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

export interface WriteEifOptions {
  kernel: EifPart;
  /** May be empty; no NUL. */
  cmdline: string;
  /** At least one; the first is measured in PCR1, the others in PCR2. */
  ramdisks: EifPart[];
  /** The metadata section, verbatim; no section where it is left out. */
  metadata?: Uint8Array | undefined;
  arch: EifArch;
  out: string;
  onProgress?: OnProgress | undefined;
}

export interface WrittenEif {
  path: string;
  /** Hex, of the file. */
  sha256: string;
  sha384: string;
  size: number;
  measurement: NitroMeasurement;
  /** What is measured, in order: "kernel", "cmdline", "ramdisk0", "ramdisk1", ... */
  parts: { name: string; size: number; sha384: string }[];
}

const BUFFER_BYTES = 1 << 20;

/**
 * Writes an image in format version 4, sections in the order of eif_build: kernel, cmdline, metadata, ramdisks. Then
 * measures what was written by the code that measures any image, before the file appears: the file's own digests need
 * the CRC in its header, so a second pass is due in any case, and in it the threads share the work.
 *
 * Throws `ERR_EIF_SECTIONS`, `ERR_EIF_CMDLINE`, `ERR_EIF_PART` (a part is not as long as it said; exit 2),
 * `ERR_DISK_FULL`. After a failure there is no file.
 */
export async function writeEif(options: WriteEifOptions): Promise<WrittenEif> {
  const { cmdline, metadata, out, onProgress } = options;
  if (cmdline.includes('\0')) throw usageError('ERR_EIF_CMDLINE', 'expected a command line without NUL');
  const parts: { type: EifSectionType; part: EifPart }[] = [
    { type: 'kernel', part: options.kernel },
    { type: 'cmdline', part: bytesPart(Buffer.from(cmdline)) },
    ...(metadata ? [{ type: 'metadata' as const, part: bytesPart(metadata) }] : []),
    ...options.ramdisks.map((part) => ({ type: 'ramdisk' as const, part })),
  ];
  const plan = planEif(
    parts.map(({ type, part }) => ({ type, size: part.size })),
    options.arch,
  );
  return withAtomicFile(out, async (file) => {
    const writer = new CrcWriter(file, plan.size, onProgress);
    writer.header(plan.header);
    for (const [i, section] of plan.sections.entries()) {
      await writer.write(section.header);
      await copyPart(parts[i]?.part ?? bytesPart(Buffer.alloc(0)), section.type, writer);
    }
    await writer.finish(plan.header);
    // The disk works while the processors hash.
    const synced = file.handle.datasync();
    synced.catch(() => {});
    const written = await remeasure(file.partial, onProgress);
    await synced;
    return { path: out, size: plan.size, ...written };
  });
}

/** A file as a part; its size is read now, its content when it is written. Throws `ERR_FILE_NOT_FOUND` (exit 2). */
export async function filePart(path: string): Promise<EifPart> {
  const source = await fileSource(path);
  await source.close();
  return { size: source.size, chunks: () => readFile(path) };
}

export const bytesPart = (bytes: Uint8Array): EifPart => ({ size: bytes.length, chunks: () => [bytes] });

async function* readFile(path: string): AsyncGenerator<Uint8Array> {
  const handle = await open(path, 'r').catch((error) => {
    throw ioError(error, `cannot read ${path}`);
  });
  try {
    const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

async function copyPart({ size, chunks }: EifPart, type: EifSectionType, writer: CrcWriter): Promise<void> {
  let found = 0;
  for await (const chunk of chunks()) {
    found += chunk.length;
    if (found > size) break;
    await writer.write(chunk);
  }
  if (found !== size) {
    const what = found > size ? 'more' : `${found}`;
    throw usageError('ERR_EIF_PART', `the ${type} changed while it was read: expected ${size} bytes, found ${what}`);
  }
}

/** Registers and digests of the finished file. */
async function remeasure(path: string, onProgress: OnProgress | undefined) {
  const source = await fileSource(path);
  try {
    const measured = await streamEif(source, { fileDigests: ['sha256', 'sha384'], onProgress });
    requireCrc(measured);
    let ramdisks = 0;
    const parts = measured.sections
      .filter(({ type }) => type !== 'metadata')
      .map(({ type, size, sha384 }) => ({ name: type === 'ramdisk' ? `ramdisk${ramdisks++}` : type, size, sha384 }));
    const { measurement, sha256 = '', sha384 = '' } = measured;
    return { sha256, sha384, measurement, parts };
  } finally {
    await source.close();
  }
}

/** Writes from the start to the end, gathering small pieces; one buffer is filled while the other is written. */
class CrcWriter {
  readonly #file: AtomicFile;
  readonly #total: number;
  readonly #onProgress: OnProgress | undefined;
  #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #spare = Buffer.allocUnsafe(BUFFER_BYTES);
  #filled = 0;
  #at = 0;
  #crc = 0;
  #pending: Promise<unknown> = Promise.resolve();

  constructor(file: AtomicFile, total: number, onProgress: OnProgress | undefined) {
    this.#file = file;
    this.#total = total;
    this.#onProgress = onProgress;
  }

  /** The EIF header, whose last field the CRC leaves out and `finish` fills in. */
  header(header: Buffer): void {
    this.#crc = crc32(header.subarray(0, CRC_AT));
    this.#at = EIF_HEADER;
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (let done = 0; done < chunk.length; ) {
      const piece = chunk.subarray(done, done + this.#buffer.length - this.#filled);
      this.#buffer.set(piece, this.#filled);
      this.#filled += piece.length;
      done += piece.length;
      if (this.#filled === this.#buffer.length) await this.#flush();
    }
  }

  async finish(header: Buffer): Promise<void> {
    await this.#flush();
    await this.#pending;
    header.writeUInt32BE(this.#crc, CRC_AT);
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

import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { usageError } from '../core/errors.ts';
import { ioError, withAtomicFile } from '../core/files.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { register } from './digests.ts';
import { EifFileWriter } from './file-writer.ts';
import { type EifArch, type EifSectionType, planEif, sectionHeader } from './layout.ts';
import { requireSignature } from './signature.ts';
import type { EifSigner } from './signer.ts';
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
  cmdline: string | Uint8Array;
  /** At least one; the first is measured in PCR1, the others in PCR2. */
  ramdisks: EifPart[];
  /** The metadata section, verbatim; no section where it is left out. */
  metadata?: Uint8Array | undefined;
  arch: EifArch;
  /** Adds a signature section, and so PCR8. */
  sign?: EifSigner | undefined;
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
 * Writes an image in format version 4, sections in the order of eif_build: kernel, cmdline, metadata, ramdisks,
 * signature. Then measures what was written by the code that measures any image, before the file appears: the file's own
 * digests need its header, so a second pass is due in any case, and in it the threads share the work.
 *
 * Throws `ERR_EIF_SECTIONS`, `ERR_EIF_CMDLINE`, `ERR_EIF_PART` (a part is not as long as it said; exit 2),
 * `ERR_DISK_FULL`. After a failure there is no file.
 */
export async function writeEif(options: WriteEifOptions): Promise<WrittenEif> {
  const { metadata, out, sign, onProgress } = options;
  const cmdline = Buffer.from(options.cmdline);
  if (cmdline.includes(0)) throw usageError('ERR_EIF_CMDLINE', 'expected a command line without NUL');
  const parts: { type: EifSectionType; part: EifPart }[] = [
    { type: 'kernel', part: options.kernel },
    { type: 'cmdline', part: bytesPart(cmdline) },
    ...(metadata ? [{ type: 'metadata' as const, part: bytesPart(metadata) }] : []),
    ...options.ramdisks.map((part) => ({ type: 'ramdisk' as const, part })),
  ];
  const sizes = parts.map(({ type, part }) => ({ type, size: part.size }));
  // How long a signature is depends on its bytes; one of no length shows whether there is room for a section.
  const plan = planEif(sign ? [...sizes, { type: 'signature', size: 0 }] : sizes, options);
  return withAtomicFile(out, async (file) => {
    const writer = new EifFileWriter(file, plan.size, onProgress);
    const pcr0 = sign ? createHash('sha384') : undefined;
    for (const { type, part } of parts) {
      await writer.write(sectionHeader(type, part.size));
      await copyPart(part, type, async (chunk) => {
        if (type !== 'metadata') pcr0?.update(chunk);
        await writer.write(chunk);
      });
    }
    if (sign && pcr0) {
      const signature = sign.section(register(pcr0.digest()));
      sizes.push({ type: 'signature', size: signature.length });
      await writer.write(sectionHeader('signature', signature.length));
      await writer.write(signature);
    }
    await writer.finish(planEif(sizes, options).header);
    // The disk works while the processors hash.
    const synced = file.handle.datasync();
    synced.catch(() => {});
    const written = await remeasure(file.partial, onProgress);
    await synced;
    return { path: out, ...written };
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

async function copyPart(
  { size, chunks }: EifPart,
  type: EifSectionType,
  write: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  let found = 0;
  for await (const chunk of chunks()) {
    found += chunk.length;
    if (found > size) break;
    await write(chunk);
  }
  if (found !== size) {
    const what = found > size ? 'more' : `${found}`;
    throw usageError('ERR_EIF_PART', `the ${type} changed while it was read: expected ${size} bytes, found ${what}`);
  }
}

/** Registers and digests of a finished file, by the reader of any image; its CRC and its signature have to hold. */
export async function remeasure(path: string, onProgress: OnProgress | undefined): Promise<Omit<WrittenEif, 'path'>> {
  const source = await fileSource(path);
  try {
    const measured = await streamEif(source, { fileDigests: ['sha256', 'sha384'], onProgress });
    requireCrc(measured);
    const { measurement, signature, sha256 = '', sha384 = '' } = measured;
    if (signature) requireSignature(signature, measurement.pcr0);
    let ramdisks = 0;
    const parts = measured.sections
      .filter(({ type }) => type !== 'metadata' && type !== 'signature')
      .map(({ type, size, sha384 }) => ({ name: type === 'ramdisk' ? `ramdisk${ramdisks++}` : type, size, sha384 }));
    return { sha256, sha384, size: source.size, measurement, parts };
  } finally {
    await source.close();
  }
}

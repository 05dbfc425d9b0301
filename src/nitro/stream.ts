import { AtomaError, negativeError, usageError } from '../core/errors.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { CRC_FIELD, FRAMING } from './digests.ts';
import { type HashLanes, hashLanes } from './lanes.ts';
import { CRC_AT, type EifLayout, type EifSection, type EifSectionType, parseEif, sectionHeader } from './layout.ts';
import { type EifSignature, parseSignatureSection } from './signature.ts';
import { type EifSource, withSource } from './source.ts';

/** Takes a ramdisk's bytes as they go by. A chunk's memory is reused once `write` has returned or resolved. */
export interface RamdiskSink {
  write(chunk: Uint8Array): void | Promise<void>;
  end(): void | Promise<void>;
}

export interface StreamOptions {
  /** Asked once per ramdisk, from 0, in order; undefined where its bytes are not wanted. */
  onRamdisk?(index: number): RamdiskSink | undefined;
  /** The same for sections of every type, once each, in the order of the file. */
  onSection?(section: EifSection): RamdiskSink | undefined | Promise<RamdiskSink | undefined>;
  /** A signature section that cannot be read is told in `signatureError`, not thrown. */
  tolerant?: boolean;
  /** Digests of the whole file beside the registers; default `['sha256']`. Each costs a pass over the bytes. */
  fileDigests?: ('sha256' | 'sha384')[];
  onProgress?: OnProgress | undefined;
}

/** Everything that one pass over an image tells. Nothing is judged but the structure: see `crc.ok`. */
export interface MeasuredEif {
  layout: EifLayout;
  crc: { stored: number; computed: number; ok: boolean };
  measurement: NitroMeasurement;
  /** Hex, of the file; undefined where it was not asked for. */
  sha256?: string;
  sha384?: string;
  sections: (EifSection & { sha384: string })[];
  cmdline: string;
  /** The bytes of the metadata section. */
  metadata: Buffer | null;
  signature: EifSignature | null;
  /** `ERR_EIF_SIGNATURE`, where `tolerant` was asked for: there is a signature section, and it means nothing. */
  signatureError?: AtomaError;
}

/**
 * Reads an image once, hashes it and hands the ramdisks to whoever wants them: the bytes handed on are the bytes that
 * were measured, whatever happens to the file meanwhile. What was handed on must not be used before this returns.
 *
 * Memory is bounded by 16 MiB and the small sections. Throws what `parseEif` throws, `ERR_EIF_CHANGED` (exit 2) if the
 * headers are not the ones that were parsed, `ERR_EIF_CMDLINE` for a NUL in the command line, `ERR_EIF_SIGNATURE`, and
 * whatever a sink throws.
 */
export async function streamEif(image: string | EifSource, options: StreamOptions = {}): Promise<MeasuredEif> {
  return withSource(image, async (source) => {
    const layout = await parseEif(source);
    const types = layout.sections.map((section) => section.type);
    const lanes = hashLanes(types, source.size, options.fileDigests ?? ['sha256']);
    try {
      const pass = new Pass(source, lanes, options);
      await pass.expect(layout.header.subarray(0, CRC_AT), FRAMING);
      await pass.expect(layout.header.subarray(CRC_AT), CRC_FIELD);
      for (const [i, section] of layout.sections.entries()) {
        await pass.expect(sectionHeader(section.type, section.size), FRAMING);
        await pass.section(section, i);
      }
      const { pcr0, pcr1, pcr2, crc, sections, sha256, sha384 } = await lanes.finish();
      const { signature, ...problem } = readSignature(pass.kept.signature, options.tolerant ?? false);
      return {
        layout,
        crc: { stored: layout.crcStored, computed: crc, ok: layout.crcStored === crc },
        measurement: { tee: 'nitro', pcr0, pcr1, pcr2, ...(signature ? { pcr8: signature.pcr8 } : {}) },
        ...(sha256 === undefined ? {} : { sha256 }),
        ...(sha384 === undefined ? {} : { sha384 }),
        sections: layout.sections.map((section, i) => ({ ...section, sha384: sections[i] ?? '' })),
        cmdline: parseCmdline(pass.kept.cmdline),
        metadata: pass.kept.metadata ?? null,
        signature,
        ...problem,
      };
    } finally {
      await lanes.close();
    }
  });
}

/** `streamEif` for whoever only wants to know. */
export const measureEif = (image: string | EifSource, onProgress?: OnProgress): Promise<MeasuredEif> =>
  streamEif(image, { onProgress });

/** Throws `ERR_EIF_CRC` (exit 3) where the stored CRC-32 is not the computed one. */
export function requireCrc({ crc }: MeasuredEif): void {
  if (crc.ok) return;
  const text = (n: number) => n.toString(16).padStart(8, '0');
  throw negativeError(
    'ERR_EIF_CRC',
    `the image is damaged: expected CRC-32 ${text(crc.stored)} as its header says, found ${text(crc.computed)}`,
  );
}

/** One walk from the first byte to the last. */
class Pass {
  readonly #source: EifSource;
  readonly #lanes: HashLanes;
  readonly #options: StreamOptions;
  #at = 0;
  #ramdisks = 0;
  /** Sections that are small by the format's rules. */
  readonly kept: Partial<Record<EifSectionType, Buffer>> = {};

  constructor(source: EifSource, lanes: HashLanes, options: StreamOptions) {
    this.#source = source;
    this.#lanes = lanes;
    this.#options = options;
  }

  /** The next bytes, which have been parsed already. */
  async expect(bytes: Uint8Array, section: number): Promise<void> {
    const found = await this.#next(bytes.length, section);
    if (!Buffer.from(bytes).equals(found)) {
      throw usageError('ERR_EIF_CHANGED', 'the image changed while it was being read');
    }
  }

  async section(section: EifSection, index: number): Promise<void> {
    const { type, size } = section;
    const sinks = [
      type === 'ramdisk' ? this.#options.onRamdisk?.(this.#ramdisks++) : undefined,
      await this.#options.onSection?.(section),
    ];
    const keep = type === 'cmdline' || type === 'metadata' || type === 'signature' ? Buffer.alloc(size) : undefined;
    for (let done = 0; done < size; ) {
      const chunk = await this.#next(size - done, index);
      for (const sink of sinks) await sink?.write(chunk);
      keep?.set(chunk, done);
      done += chunk.length;
    }
    for (const sink of sinks) await sink?.end();
    if (keep) this.kept[type] = keep;
  }

  async #next(most: number, section: number): Promise<Uint8Array> {
    const memory = await this.#lanes.acquire();
    const chunk = memory.subarray(0, Math.min(most, memory.length));
    await this.#source.read(chunk, this.#at);
    this.#lanes.submit(chunk.length, section);
    this.#at += chunk.length;
    this.#options.onProgress?.({ phase: 'measuring', done: this.#at, total: this.#source.size });
    return chunk;
  }
}

function readSignature(
  section: Buffer | undefined,
  tolerant: boolean,
): Pick<MeasuredEif, 'signature' | 'signatureError'> {
  try {
    return { signature: section ? parseSignatureSection(section) : null };
  } catch (error) {
    if (!tolerant || !(error instanceof AtomaError)) throw error;
    return { signature: null, signatureError: error };
  }
}

function parseCmdline(bytes: Buffer | undefined): string {
  if (bytes?.includes(0)) throw usageError('ERR_EIF_CMDLINE', 'expected a command line without NUL, found one with it');
  return bytes?.toString('utf8') ?? '';
}

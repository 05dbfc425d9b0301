import { createHash, type Hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { sha384 } from '../core/bytes.ts';
import type { EifSectionType } from './layout.ts';

/** Chunks that are no section's data: headers, and the CRC field, which the CRC does not cover. */
export const FRAMING = -1;
export const CRC_FIELD = -2;

/** Work that can be shared out between threads. `registers01` and `registers2` read the bulk of a file once each. */
export type DigestTask = 'registers01' | 'registers2' | 'crc' | 'sha256' | 'sha384';

/** All hex, but for the CRC. Each task fills in its own. */
export interface EifDigests {
  pcr0: string;
  pcr1: string;
  pcr2: string;
  /** SHA-384 of each section's data, in file order. */
  sections: string[];
  crc: number;
  /** Of the whole file. */
  sha256: string;
  sha384: string;
}

/** A PCR that was extended once, from zero: SHA-384(48 zero bytes || digest). */
export const register = (digest: Uint8Array): string => sha384(Buffer.alloc(48), digest).toString('hex');

/**
 * Digests of one EIF whose bytes arrive in file order. PCR0 covers kernel, cmdline and all ramdisks; PCR1 kernel,
 * cmdline and the first ramdisk; PCR2 the further ramdisks: the data alone, no headers.
 */
export class EifDigester {
  readonly #types: EifSectionType[];
  readonly #ramdisks: number[];
  readonly #tasks: Set<DigestTask>;
  readonly #image = createHash('sha384');
  readonly #application = createHash('sha384');
  readonly #file = { sha256: createHash('sha256'), sha384: createHash('sha384') };
  readonly #sections: string[] = [];
  #section: Hash | undefined;
  #pcr1: string | undefined;
  #crc = 0;

  constructor(types: EifSectionType[], tasks: DigestTask[]) {
    this.#types = types;
    this.#ramdisks = types.flatMap((type, i) => (type === 'ramdisk' ? [i] : []));
    this.#tasks = new Set(tasks);
  }

  /** `section` is the index of the section whose data this is, or `FRAMING` or `CRC_FIELD`. */
  update(chunk: Uint8Array, section: number): void {
    const does = this.#tasks;
    if (does.has('sha256')) this.#file.sha256.update(chunk);
    if (does.has('sha384')) this.#file.sha384.update(chunk);
    if (does.has('crc') && section !== CRC_FIELD) this.#crc = crc32(chunk, this.#crc);
    if (section < 0) return;
    if (does.has('registers01')) this.#updateImage(chunk, section);
    if (does.has('registers2')) this.#updateSections(chunk, section);
  }

  finish(): Partial<EifDigests> {
    const digests: Partial<EifDigests> = {};
    if (this.#tasks.has('registers01')) {
      digests.pcr1 = this.#pcr1 ?? register(this.#image.copy().digest());
      digests.pcr0 = register(this.#image.digest());
    }
    if (this.#tasks.has('registers2')) {
      this.#finishSections(this.#types.length);
      digests.sections = this.#sections;
      digests.pcr2 = register(this.#application.digest());
    }
    if (this.#tasks.has('crc')) digests.crc = this.#crc;
    if (this.#tasks.has('sha256')) digests.sha256 = this.#file.sha256.digest('hex');
    if (this.#tasks.has('sha384')) digests.sha384 = this.#file.sha384.digest('hex');
    return digests;
  }

  #updateImage(chunk: Uint8Array, section: number): void {
    const type = this.#types[section];
    if (type !== 'kernel' && type !== 'cmdline' && type !== 'ramdisk') return;
    if (section === this.#ramdisks[1]) this.#pcr1 ??= register(this.#image.copy().digest());
    this.#image.update(chunk);
  }

  #updateSections(chunk: Uint8Array, section: number): void {
    this.#finishSections(section);
    if (this.#types[section] === 'ramdisk' && section !== this.#ramdisks[0]) this.#application.update(chunk);
    // The second ramdisk is nearly the whole file, and so far PCR2 holds nothing else: its digest comes from there.
    if (section === this.#ramdisks[1]) return;
    this.#section ??= createHash('sha384');
    this.#section.update(chunk);
  }

  /** Closes the sections before `next`; one that never got a chunk is empty. */
  #finishSections(next: number): void {
    while (this.#sections.length < next) {
      const hash =
        this.#sections.length === this.#ramdisks[1]
          ? this.#application.copy()
          : (this.#section ?? createHash('sha384'));
      this.#sections.push(hash.digest('hex'));
      this.#section = undefined;
    }
  }
}

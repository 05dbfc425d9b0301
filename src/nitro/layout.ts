/**
 * The enclave image format, big-endian throughout: aws-nitro-enclaves-image-format 0.5.0 src/defs/mod.rs and QEMU 10.0
 * hw/core/eif.c. The reader is stricter than either: the section table and the section headers must say the same, and
 * every byte of the file must belong to something.
 */
import { usageError } from '../core/errors.ts';
import { type EifSource, truncated } from './source.ts';

export const EIF_MAGIC = 0x2e656966; // ".eif"
export const EIF_VERSION = 4;
export const EIF_HEADER = 548;
export const SECTION_HEADER = 12;
export const MAX_SECTIONS = 32;
/** Offsets of the header's fields. */
const AT = { version: 4, flags: 6, mem: 8, cpus: 16, reserved: 24, count: 26, offsets: 28, sizes: 284, unused: 540 };
/** The CRC-32 is the header's last field, and covers every byte of the file but its own. */
export const CRC_AT = 544;
/** What every builder writes; nothing reads them. */
export const DEFAULT_MEM = 1n << 30n;
export const DEFAULT_CPUS = 2n;

export type EifArch = 'x86_64' | 'aarch64';
export type EifSectionType = 'kernel' | 'cmdline' | 'ramdisk' | 'signature' | 'metadata';
/** Section type numbers by name, and the format version that brought them. */
const TYPES: Record<EifSectionType, { number: number; since: number }> = {
  kernel: { number: 1, since: 2 },
  cmdline: { number: 2, since: 2 },
  ramdisk: { number: 3, since: 2 },
  signature: { number: 4, since: 3 },
  metadata: { number: 5, since: 4 },
};
const BY_NUMBER = new Map(Object.entries(TYPES).map(([type, { number }]) => [number, type as EifSectionType]));
/** Sections that are held in memory are bounded: the x86 kernel takes 2048 bytes of command line, nitro-cli 4096 of metadata. */
const MAX_BYTES: Partial<Record<EifSectionType, number>> = { cmdline: 1 << 16, signature: 1 << 18, metadata: 1 << 22 };

export interface EifSection {
  type: EifSectionType;
  /** Of the data, behind the section's own 12-byte header. */
  offset: number;
  size: number;
}

export interface EifLayout {
  version: number;
  arch: EifArch;
  flags: number;
  /** Bytes and count that the header suggests; not measured, and nitro-cli ignores them. */
  defaultMem: bigint;
  defaultCpus: bigint;
  sections: EifSection[];
  crcStored: number;
  /** The 548 bytes as they were read, so that a later pass can tell that the file changed. */
  header: Buffer;
}

/**
 * Reads the header and every section header of hostile bytes, and nothing else. Throws, all exit 2: `ERR_EIF_MAGIC`,
 * `ERR_EIF_VERSION` (2 to 4 are known), `ERR_EIF_FLAGS`, `ERR_EIF_TRUNCATED`, `ERR_EIF_TRAILING`, `ERR_EIF_SECTIONS`
 * (count, order, sizes, overlap, table against section headers, not exactly one kernel and one cmdline, no ramdisk).
 */
export async function parseEif(source: EifSource): Promise<EifLayout> {
  if (source.size < EIF_HEADER) {
    const start = Buffer.alloc(Math.min(4, source.size));
    await source.read(start, 0);
    if (start.length < 4 || start.readUInt32BE(0) !== EIF_MAGIC) throw notEif(start);
    throw truncated(EIF_HEADER, source.size);
  }
  const header = Buffer.alloc(EIF_HEADER);
  await source.read(header, 0);
  const { count, ...fields } = parseHeader(header);
  const sections: EifSection[] = [];
  let end = EIF_HEADER;
  for (let i = 0; i < count; i++) {
    const section = await parseSection(source, header, i, end, fields.version);
    sections.push(section);
    end = section.offset + section.size;
  }
  if (end < source.size) {
    throw usageError('ERR_EIF_TRAILING', `expected the image to end at byte ${end}, found ${source.size - end} more`);
  }
  checkSections(sections);
  return { ...fields, sections, header };
}

function parseHeader(header: Buffer): Omit<EifLayout, 'sections' | 'header'> & { count: number } {
  if (header.readUInt32BE(0) !== EIF_MAGIC) throw notEif(header.subarray(0, 4));
  const version = header.readUInt16BE(AT.version);
  if (version < 2 || version > EIF_VERSION) {
    throw usageError('ERR_EIF_VERSION', `expected image format version 2 to ${EIF_VERSION}, found ${version}`);
  }
  const flags = header.readUInt16BE(AT.flags);
  if (flags > 1) {
    throw usageError('ERR_EIF_FLAGS', `expected header flags 0 (x86_64) or 1 (aarch64), found 0x${flags.toString(16)}`);
  }
  if (header.readUInt16BE(AT.reserved) !== 0 || header.readUInt32BE(AT.unused) !== 0) {
    throw usageError('ERR_EIF_FLAGS', 'expected the reserved fields of the header to be zero');
  }
  const count = header.readUInt16BE(AT.count);
  if (count > MAX_SECTIONS) throw bad(`expected at most ${MAX_SECTIONS} sections, found ${count}`);
  for (let i = count; i < MAX_SECTIONS; i++) {
    if (header.readBigUInt64BE(AT.offsets + 8 * i) !== 0n || header.readBigUInt64BE(AT.sizes + 8 * i) !== 0n) {
      throw bad(`the section table has ${count} entries, but entry ${i} is not empty`);
    }
  }
  return {
    version,
    flags,
    arch: flags === 1 ? 'aarch64' : 'x86_64',
    defaultMem: header.readBigUInt64BE(AT.mem),
    defaultCpus: header.readBigUInt64BE(AT.cpus),
    crcStored: header.readUInt32BE(CRC_AT),
    count,
  };
}

/** Section `i`, which must start at `start`: sections follow one another without gap or overlap. */
async function parseSection(
  source: EifSource,
  header: Buffer,
  i: number,
  start: number,
  version: number,
): Promise<EifSection> {
  const tableOffset = header.readBigUInt64BE(AT.offsets + 8 * i);
  const tableSize = header.readBigUInt64BE(AT.sizes + 8 * i);
  if (tableOffset !== BigInt(start)) {
    throw bad(`section ${i}: expected it to start at byte ${start}, where the one before ends; found ${tableOffset}`);
  }
  const offset = start + SECTION_HEADER;
  const end = BigInt(offset) + tableSize;
  if (end > BigInt(source.size)) {
    throw usageError(
      'ERR_EIF_TRUNCATED',
      `section ${i} has ${tableSize} bytes and ends at byte ${end}; the image has ${source.size} bytes`,
    );
  }
  const own = Buffer.alloc(SECTION_HEADER);
  await source.read(own, start);
  const type = BY_NUMBER.get(own.readUInt16BE(0));
  if (type === undefined) throw bad(`section ${i}: expected a type of 1 to 5, found ${own.readUInt16BE(0)}`);
  if (version < TYPES[type].since) throw bad(`section ${i}: version ${version} of the format has no ${type} section`);
  if (own.readUInt16BE(2) !== 0) throw bad(`section ${i}: expected flags 0, found ${own.readUInt16BE(2)}`);
  if (own.readBigUInt64BE(4) !== tableSize) {
    throw bad(`section ${i}: the table says ${tableSize} bytes, its own header ${own.readBigUInt64BE(4)}`);
  }
  const size = Number(tableSize);
  const most = MAX_BYTES[type];
  if (most !== undefined && size > most) {
    throw bad(`section ${i}: expected at most ${most} bytes of ${type}, found ${size}`);
  }
  if (size === 0 && (type === 'kernel' || type === 'ramdisk')) throw bad(`section ${i}: the ${type} is empty`);
  return { type, offset, size };
}

/**
 * Registers are hashed over kernel, cmdline and ramdisks; readers differ over whether that is the order in the file or
 * of the types, so the two must agree.
 */
function checkSections(sections: { type: EifSectionType }[]): void {
  const count = (type: EifSectionType) => sections.filter((s) => s.type === type).length;
  for (const type of ['kernel', 'cmdline'] as const) {
    if (count(type) !== 1) throw bad(`expected exactly one ${type} section, found ${count(type)}`);
  }
  if (count('ramdisk') === 0) throw bad('expected at least one ramdisk section, found none');
  for (const type of ['metadata', 'signature'] as const) {
    if (count(type) > 1) throw bad(`expected at most one ${type} section, found ${count(type)}`);
  }
  const measured = sections.map((s) => s.type).filter((type) => type !== 'metadata' && type !== 'signature');
  if (measured[0] !== 'kernel' || measured[1] !== 'cmdline') {
    throw bad(`expected kernel, cmdline and ramdisks in this order, found ${measured.join(', ')}`);
  }
}

export interface PlanOptions {
  arch: EifArch;
  /** Default: what every builder writes. */
  defaultMem?: bigint;
  defaultCpus?: bigint;
}

/**
 * The header of an image whose sections of these types and sizes lie end to end, with a CRC of 0 at `CRC_AT`, and the
 * image's size. Throws `ERR_EIF_SECTIONS` (exit 2) for what `parseEif` would refuse.
 */
export function planEif(
  parts: { type: EifSectionType; size: number }[],
  { arch, defaultMem = DEFAULT_MEM, defaultCpus = DEFAULT_CPUS }: PlanOptions,
) {
  if (parts.length > MAX_SECTIONS) throw bad(`expected at most ${MAX_SECTIONS} sections, found ${parts.length}`);
  const header = Buffer.alloc(EIF_HEADER);
  header.writeUInt32BE(EIF_MAGIC, 0);
  header.writeUInt16BE(EIF_VERSION, AT.version);
  header.writeUInt16BE(arch === 'aarch64' ? 1 : 0, AT.flags);
  header.writeBigUInt64BE(defaultMem, AT.mem);
  header.writeBigUInt64BE(defaultCpus, AT.cpus);
  header.writeUInt16BE(parts.length, AT.count);
  let end = EIF_HEADER;
  for (const [i, { type, size }] of parts.entries()) {
    const most = MAX_BYTES[type];
    if (most !== undefined && size > most) throw bad(`expected at most ${most} bytes of ${type}, found ${size}`);
    if (size === 0 && (type === 'kernel' || type === 'ramdisk')) throw bad(`the ${type} is empty`);
    header.writeBigUInt64BE(BigInt(end), AT.offsets + 8 * i);
    header.writeBigUInt64BE(BigInt(size), AT.sizes + 8 * i);
    end += SECTION_HEADER + size;
  }
  checkSections(parts);
  return { header, size: end };
}

/** The 12 bytes in front of a section's data. */
export function sectionHeader(type: EifSectionType, size: number): Buffer {
  const own = Buffer.alloc(SECTION_HEADER);
  own.writeUInt16BE(TYPES[type].number, 0);
  own.writeBigUInt64BE(BigInt(size), 4);
  return own;
}

const bad = (why: string) => usageError('ERR_EIF_SECTIONS', `malformed image: ${why}`);
const notEif = (start: Buffer) =>
  usageError(
    'ERR_EIF_MAGIC',
    `not an enclave image: expected it to start with 2e656966, found ${start.toString('hex')}`,
  );

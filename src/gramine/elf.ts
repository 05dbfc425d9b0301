import { usageError } from '../core/errors.ts';

/** A PT_LOAD segment. Addresses and sizes are bytes, all safe integers; [offset, offset + fileSize) lies in the file. */
export interface Segment {
  offset: number;
  address: number;
  fileSize: number;
  memorySize: number;
  read: boolean;
  write: boolean;
  execute: boolean;
}

/** What of a libpal.so is measured. */
export interface Elf {
  entry: number;
  /** In the order of the program headers, which is the order in which they are measured. */
  segments: Segment[];
}

/** Gramine's loader keeps that many (pal/src/host/linux-sgx, get_loadcmds). */
const MAX_SEGMENTS = 16;
/** Beyond this no user address is: the canonical lower half of x86-64. */
const MAX_ADDRESS = 1n << 47n;
const PAGE = 4096;
const HEADER = 64;
const PROGRAM_HEADER = 56;
const LOAD = 1;

/**
 * Reads an ELF64 file for x86-64 from hostile bytes (System V ABI, "Object Files" and "Program Loading"). Segments must lie in
 * the file, hold no more file than memory, be aligned as pages are mapped, and share no page: no enclave can be loaded from
 * others. Throws `ERR_ELF_MALFORMED`, `ERR_ELF_KIND` (exit 2).
 */
export function parseElf(bytes: Uint8Array): Elf {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < HEADER || view.readUInt32BE(0) !== 0x7f454c46) {
    throw malformed(
      `expected an ELF header of ${HEADER} bytes, found ${view.length < HEADER ? 'less' : 'other bytes'}`,
    );
  }
  requireKind(view);
  const count = view.readUInt16LE(56);
  if (count === 0xffff || view.readUInt16LE(54) !== PROGRAM_HEADER) {
    throw malformed(
      `expected program headers of ${PROGRAM_HEADER} bytes, found ${view.readUInt16LE(54)} bytes, ${count} times`,
    );
  }
  const table = view.readBigUInt64LE(32);
  if (table + BigInt(count * PROGRAM_HEADER) > BigInt(view.length)) {
    throw malformed(`expected ${count} program headers at ${table} in ${view.length} bytes`);
  }
  const segments: Segment[] = [];
  for (let index = 0; index < count; index++) {
    const at = Number(table) + index * PROGRAM_HEADER;
    if (view.readUInt32LE(at) !== LOAD) continue;
    if (segments.length === MAX_SEGMENTS)
      throw malformed(`expected at most ${MAX_SEGMENTS} segments to load, found more`);
    segments.push(readSegment(view, at, index));
  }
  if (segments.length === 0) throw malformed('expected a segment to load, found none');
  requireDisjoint(segments);
  return { entry: address(view.readBigUInt64LE(24), 'the entry point'), segments };
}

function requireKind(view: Buffer): void {
  const [bits, order, type, machine] = [view[4], view[5], view.readUInt16LE(16), view.readUInt16LE(18)];
  const found =
    bits !== 2
      ? `class ${bits}`
      : order !== 1
        ? `byte order ${order}`
        : machine !== 62
          ? `machine ${machine}`
          : type !== 2 && type !== 3
            ? `type ${type}`
            : undefined;
  if (found === undefined) return;
  throw usageError(
    'ERR_ELF_KIND',
    `libpal: expected a 64-bit little-endian x86-64 shared object or program, found ${found}`,
  );
}

function readSegment(view: Buffer, at: number, index: number): Segment {
  const name = `segment ${index}`;
  const [offset, virtual, fileSize, memorySize] = [8, 16, 32, 40].map((field) => view.readBigUInt64LE(at + field)) as [
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  if (offset + fileSize > BigInt(view.length)) {
    throw malformed(`${name}: expected ${fileSize} bytes at ${offset}, found a file of ${view.length}`);
  }
  if (memorySize < fileSize)
    throw malformed(`${name}: expected at least as much memory as file, ${fileSize}, found ${memorySize}`);
  address(virtual + memorySize, name);
  if ((offset - virtual) % BigInt(PAGE) !== 0n) {
    throw malformed(
      `${name}: expected offset and address to be the same within a page, found ${offset} and ${virtual}`,
    );
  }
  const flags = view.readUInt32LE(at + 4);
  return {
    offset: Number(offset),
    address: Number(virtual),
    fileSize: Number(fileSize),
    memorySize: Number(memorySize),
    read: (flags & 4) !== 0,
    write: (flags & 2) !== 0,
    execute: (flags & 1) !== 0,
  };
}

/** A page that is added twice makes no enclave. */
function requireDisjoint(segments: Segment[]): void {
  const pages = segments.map(segmentPages).filter(({ size }) => size > 0);
  pages.sort((a, b) => a.address - b.address);
  for (const [index, { address, size }] of pages.entries()) {
    const next = pages[index + 1];
    if (next && address + size > next.address) {
      throw malformed(`expected segments that share no page, found two at ${hexAddress(next.address)}`);
    }
  }
}

function address(value: bigint, what: string): number {
  if (value > MAX_ADDRESS) throw malformed(`${what}: expected an address below 2^47, found 0x${value.toString(16)}`);
  return Number(value);
}

const malformed = (message: string) => usageError('ERR_ELF_MALFORMED', `libpal: ${message}`);

/** The whole pages that a segment takes. */
export function segmentPages({ address, memorySize }: Segment): { address: number; size: number } {
  const first = pageDown(address);
  return { address: first, size: pageUp(address + memorySize) - first };
}

export const hexAddress = (value: number): string => `0x${value.toString(16)}`;

export const pageDown = (value: number): number => value - (value % PAGE);
export const pageUp = (value: number): number => pageDown(value + PAGE - 1);

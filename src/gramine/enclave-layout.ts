import { usageError } from '../core/errors.ts';
import { type Elf, hexAddress, pageUp, type Segment, segmentPages } from './elf.ts';
import type { SgxSettings } from './settings.ts';

/** SECINFO flags of a page (Intel SDM, volume 3D, "SECINFO"). */
export const PAGE_FLAGS = { read: 1, write: 2, execute: 4, tcs: 0x100, regular: 0x200 } as const;
export const PAGE = 4096;

/** Pages in a row with the same flags. */
export interface PageRange {
  address: number;
  size: number;
  flags: number;
  /**
   * `added`: not measured, the enclave's program clears it; `zero`: measured, all zero. A function writes the content of page
   * `index` of the range into a page of zeros.
   */
  content: 'added' | 'zero' | ((page: Buffer, index: number) => void);
}

/** A part of an enclave with a purpose; its ranges are measured in their order. */
export interface PlannedArea {
  name: string;
  address: number;
  size: number;
  ranges: PageRange[];
}

/** Gramine's fixed sizes (pal/src/host/linux-sgx/generated_offsets.c and pal_linux_defs.h of 1.9). */
const HEAP_MIN = 0x10000;
const SSA_FRAME = 0x4000;
const SSA_FRAMES = 2;
const STACK = 0x40000;
const SIGNAL_STACK = 0x10000;
const GPR_SIZE = 0xb8;
const CANARY = 0xbadbadbadbadn;

/**
 * Where everything of an enclave lies, in the order in which it is measured: sgx_sign.py of Gramine 1.9. Areas grow down from
 * the top; the PAL has its own address where its first segment has one. Throws `ERR_GRAMINE_ENCLAVE_SIZE`,
 * `ERR_GRAMINE_PAL_ADDRESS` (exit 2).
 */
export function planEnclave(manifest: Uint8Array, libpal: Uint8Array, elf: Elf, settings: SgxSettings): PlannedArea[] {
  const enclaveSize = Number(settings.enclaveSize);
  const threads = Array.from({ length: settings.maxThreads }, (_, thread) => thread);
  const pal = palExtent(elf, enclaveSize);
  let lowest = enclaveSize;
  const place = (bytes: number): { address: number; size: number } => {
    const size = pageUp(bytes);
    if (lowest - size < HEAP_MIN) throw tooSmall(enclaveSize, settings.maxThreads);
    lowest -= size;
    return { address: lowest, size };
  };
  const placed = {
    manifest: place(manifest.length + 1),
    ssa: place(threads.length * SSA_FRAME * SSA_FRAMES),
    tcs: place(threads.length * PAGE),
    tls: place(threads.length * PAGE),
    stacks: threads.map(() => place(STACK)),
    signalStacks: threads.map(() => place(SIGNAL_STACK)),
    pal: pal.fixed === undefined ? place(pal.size) : { address: pal.fixed, size: pal.size },
  };
  if (pal.fixed !== undefined) requireRoom(placed.pal, lowest, settings);
  const places: Places = { ...placed, enclaveSize, manifestSize: manifest.length + 1, entry: elf.entry };
  const { read, write, regular, tcs } = PAGE_FLAGS;
  const one = (name: string, at: Extent, flags: number, content: PageRange['content']): PlannedArea => ({
    name,
    ...at,
    ranges: [{ ...at, flags, content }],
  });
  const data = regular | read | write;
  return [
    one('manifest', placed.manifest, regular | read, (page, index) => {
      page.set(manifest.subarray(index * PAGE, (index + 1) * PAGE));
    }),
    one('ssa', placed.ssa, data, 'zero'),
    one('tcs', placed.tcs, tcs, (page, thread) => writeTcs(page, thread, places)),
    one('tls', placed.tls, data, (page, thread) => writeTls(page, thread, places)),
    ...placed.stacks.map((stack, thread) => one(`stack${thread}`, stack, data, 'zero')),
    ...placed.signalStacks.map((stack, thread) => one(`sig_stack${thread}`, stack, data, 'zero')),
    { name: 'pal', ...placed.pal, ranges: palRanges(libpal, elf, placed.pal.address - pal.first) },
    ...(settings.edmm ? [] : freeAreas(placed.pal, lowest)),
  ];
}

interface Extent {
  address: number;
  size: number;
}

interface Places {
  ssa: Extent;
  tcs: Extent;
  tls: Extent;
  stacks: Extent[];
  signalStacks: Extent[];
  pal: Extent;
  enclaveSize: number;
  manifestSize: number;
  entry: number;
}

/** The pages that the PAL spans; `fixed` where its first segment is not at 0, and so cannot move. */
function palExtent({ segments }: Elf, enclaveSize: number) {
  const pages = segments.map(segmentPages);
  const first = Math.min(...pages.map(({ address }) => address));
  const size = Math.max(...pages.map(({ address, size }) => address + size)) - first;
  if (first === 0) return { first, size };
  if (first < HEAP_MIN || first + size > enclaveSize) {
    throw palAddress(
      first,
      size,
      `between ${hexAddress(HEAP_MIN)} and the enclave's end at ${hexAddress(enclaveSize)}`,
    );
  }
  return { first, size, fixed: first };
}

/**
 * Everything else has to lie above a PAL with an address. Where it touches the PAL, Gramine's signer adds the PAL's pages
 * to the free ones again (a second EADD of a page): no enclave can be made so, and we refuse.
 */
function requireRoom({ address, size }: Extent, lowest: number, { edmm }: SgxSettings): void {
  if (address + size < lowest || (edmm && address + size === lowest)) return;
  throw palAddress(address, size, `below ${hexAddress(lowest)}, where the other areas begin`);
}

/** Program and data of the PAL: pages between its segments are not part of the enclave at first. */
function palRanges(libpal: Uint8Array, { segments }: Elf, base: number): PageRange[] {
  return segments.map((segment) => {
    const { address, size } = segmentPages(segment);
    const { read, write, execute, regular } = PAGE_FLAGS;
    const flags = regular | (segment.read ? read : 0) | (segment.write ? write : 0) | (segment.execute ? execute : 0);
    return {
      address: base + address,
      size,
      flags,
      content: (page, index) => copySegment(page, index, segment, libpal),
    };
  });
}

/** A page of a segment: what the file has for it, and zeros around. */
function copySegment(page: Buffer, index: number, { offset, address, fileSize }: Segment, libpal: Uint8Array): void {
  const pageOffset = offset - (address % PAGE) + index * PAGE;
  const [start, end] = [Math.max(offset, pageOffset), Math.min(offset + fileSize, pageOffset + PAGE)];
  if (start < end) page.set(libpal.subarray(start, end), start - pageOffset);
}

/** What is left from the lowest area down: the heap. */
function freeAreas(pal: Extent, lowest: number): PlannedArea[] {
  const { read, write, execute, regular } = PAGE_FLAGS;
  const free = (address: number, end: number): PlannedArea[] => {
    const at = { address, size: end - address };
    if (at.size === 0) return [];
    return [{ name: 'free', ...at, ranges: [{ ...at, flags: regular | read | write | execute, content: 'added' }] }];
  };
  return [...free(pal.address + pal.size, Math.max(lowest, pal.address + pal.size)), ...free(HEAP_MIN, pal.address)];
}

/** A thread control structure (Intel SDM, volume 3D, "TCS"). */
function writeTcs(page: Buffer, thread: number, { ssa, tls, pal, entry }: Places): void {
  page.writeBigUInt64LE(BigInt(ssa.address + thread * SSA_FRAME * SSA_FRAMES), 0x10);
  page.writeUInt32LE(SSA_FRAMES, 0x1c);
  page.writeBigUInt64LE(BigInt(pal.address + entry), 0x20);
  page.writeBigUInt64LE(BigInt(tls.address + thread * PAGE), 0x38);
  page.writeUInt32LE(0xfff, 0x40);
  page.writeUInt32LE(0xfff, 0x44);
}

/** Gramine's struct pal_enclave_tcb, as its host sets it before the enclave starts. */
function writeTls(page: Buffer, thread: number, places: Places): void {
  const { ssa, tcs, tls, stacks, signalStacks, pal } = places;
  const frame = ssa.address + thread * SSA_FRAME * SSA_FRAMES;
  const [stack, signalStack] = [stacks[thread] as Extent, signalStacks[thread] as Extent];
  const fields: [offset: number, value: number][] = [
    [0x000, tls.address + thread * PAGE],
    [0x110, places.enclaveSize],
    [0x118, tcs.address + thread * PAGE],
    [0x120, stack.address + stack.size],
    [0x130, signalStack.address],
    [0x138, signalStack.address + signalStack.size],
    [0x148, frame],
    [0x150, frame + SSA_FRAME - GPR_SIZE],
    [0x1a0, places.manifestSize],
    [0x1a8, HEAP_MIN],
    [0x1b0, pal.address],
  ];
  for (const [offset, value] of fields) page.writeBigUInt64LE(BigInt(value), offset);
  page.writeBigUInt64LE(CANARY, 0x008);
}

const tooSmall = (size: number, threads: number) =>
  usageError(
    'ERR_GRAMINE_ENCLAVE_SIZE',
    `expected an enclave large enough for the manifest, the PAL and ${threads} threads, found ${size} bytes`,
    { hint: 'raise sgx.enclave_size, or lower sgx.max_threads' },
  );

const palAddress = (address: number, size: number, expected: string) =>
  usageError(
    'ERR_GRAMINE_PAL_ADDRESS',
    `libpal: expected its ${size} bytes ${expected}; its segments want ${hexAddress(address)}`,
    { hint: 'raise sgx.enclave_size, or use a libpal.so that can lie anywhere, as Gramine installs it' },
  );

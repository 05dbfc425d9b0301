import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { usageError } from '../core/errors.ts';
import { ioError } from '../core/files.ts';

/** A kernel in the form that boot loaders take. */
export interface KernelFile {
  arch: 'x86_64' | 'aarch64';
  /** As the kernel says it: "6.12.117", "4.14.256-209.484.amzn2.x86_64"; "unknown" where an arm64 image does not say. */
  version: string;
  /** Hex. */
  sha256: string;
  size: number;
}

/** x86: the boot header and the version's text lie in the first 32 KiB; arm64: the header has 64 bytes. */
const HEAD = 64 << 10;
const MAX_KERNEL = 512 * 2 ** 20;
const CHUNK = 1 << 20;

/**
 * Reads what a kernel says about itself, and its digest in the same pass.
 * x86: Documentation/arch/x86/boot.rst of Linux ("HdrS" at 0x202); arm64: Documentation/arch/arm64/booting.rst.
 * Throws `ERR_KERNEL_FILE` (exit 2), which says what the file is instead.
 */
export async function readKernelFile(path: string): Promise<KernelFile> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    const stat = await handle.stat();
    if (!stat.isFile()) throw bad(path, 'something that is not a regular file');
    const { size } = stat;
    if (size > MAX_KERNEL) throw bad(path, `a file of ${size} bytes`);
    const head = Buffer.alloc(Math.min(HEAD, size));
    await readAll(handle, head);
    const parsed = parseKernel(head, size);
    if (typeof parsed === 'string') throw bad(path, parsed);
    const { sha256, banner } = await scan(handle, size, path);
    const version = parsed.version ?? banner ?? 'unknown';
    return { arch: parsed.arch, version, sha256, size };
  } catch (error) {
    throw ioError(error, `cannot read the kernel ${path}`);
  } finally {
    await handle?.close();
  }
}

/** The same of a kernel in memory, but for its digest. Pure. Throws `ERR_KERNEL_FILE` (exit 2). */
export function describeKernel(bytes: Uint8Array, path: string): Pick<KernelFile, 'arch' | 'version'> {
  const parsed = parseKernel(bytes.subarray(0, HEAD), bytes.length);
  if (typeof parsed === 'string') throw bad(path, parsed);
  return { arch: parsed.arch, version: parsed.version ?? 'unknown' };
}

/** What the first bytes say, or in words what the file is instead of a kernel. Pure. */
export function parseKernel(
  head: Uint8Array,
  size: number,
): { arch: 'x86_64'; version: string } | { arch: 'aarch64'; version: null } | string {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (bytes.length >= 0x268 && bytes.toString('latin1', 0x202, 0x206) === 'HdrS') return parseX86(bytes, size);
  if (bytes.length >= 64 && bytes.toString('latin1', 56, 60) === 'ARM\x64') return parseArm64(bytes, size);
  return otherKind(bytes, size);
}

function parseX86(bytes: Buffer, size: number): { arch: 'x86_64'; version: string } | string {
  if (bytes.readUInt16LE(0x1fe) !== 0xaa55) return 'an x86 kernel whose boot flag is not 0xAA55';
  const protocol = bytes.readUInt16LE(0x206);
  if (protocol < 0x020c) {
    return `an x86 kernel of boot protocol ${protocol >> 8}.${protocol & 255}, which cannot say that it is a 64-bit one (2.12 can)`;
  }
  if ((bytes.readUInt8(0x211) & 1) === 0) return 'a zImage, which is loaded low';
  if ((bytes.readUInt16LE(0x236) & 1) === 0) return 'a 32-bit x86 kernel';
  const setup = ((bytes.readUInt8(0x1f1) || 4) + 1) * 512;
  // In paragraphs of 16 bytes, rounded up.
  const needs = setup + bytes.readUInt32LE(0x1f4) * 16;
  if (size < needs - 15) return `a truncated bzImage: ${size} bytes of ${needs}`;
  const [offset, length] = [bytes.readUInt32LE(0x248), bytes.readUInt32LE(0x24c)];
  if (setup + offset + length > size) return 'a bzImage whose payload goes beyond its end';
  const at = bytes.readUInt16LE(0x20e) + 0x200;
  const end = bytes.indexOf(0, at);
  const text = at < setup && end > at ? bytes.toString('latin1', at, Math.min(end, at + 256)) : '';
  const version = /^[0-9]+\.[!-~]+/.exec(text)?.[0];
  return version === undefined ? 'a bzImage that does not say its version' : { arch: 'x86_64', version };
}

function parseArm64(bytes: Buffer, size: number): { arch: 'aarch64'; version: null } | string {
  const needs = bytes.readBigUInt64LE(16);
  const flags = bytes.readBigUInt64LE(24);
  if (flags & 1n) return 'a big-endian arm64 kernel';
  // The size in memory counts zeros at the end that the file need not have, but it is never smaller than the file.
  if (needs < BigInt(size) || needs > BigInt(MAX_KERNEL)) {
    return `an arm64 Image whose header says ${needs} bytes where the file has ${size}`;
  }
  return { arch: 'aarch64', version: null };
}

const KINDS: [magic: string, at: number, what: string][] = [
  ['', 0, 'an empty file'],
  ['\x7fELF', 0, 'an ELF file (a vmlinux?): the loader takes the bzImage that is built from it'],
  ['zimg', 4, 'an EFI zboot image: unpack the Image inside it'],
  ['\x1f\x8b', 0, 'a gzip file: unpack it'],
  ['\xfd7zXZ\0', 0, 'an xz file: unpack it'],
  ['\x28\xb5\x2f\xfd', 0, 'a zstd file: unpack it'],
  ['.eif', 0, 'an enclave image: take it apart with `atoma-tee nitro unpack`'],
  ['070701', 0, 'a ramdisk (cpio)'],
  ['!<arch>\n', 0, 'a Debian package or another ar archive: unpack it'],
  ['MZ', 0, 'an EFI program without a Linux boot header'],
  ['version https://git-lfs', 0, 'a Git LFS pointer: fetch the file itself'],
];

function otherKind(bytes: Buffer, size: number): string {
  for (const [magic, at, what] of KINDS) {
    if (magic === '' ? size === 0 : bytes.toString('latin1', at, at + magic.length) === magic) return what;
  }
  return bytes.length < 0x268 ? `a file of ${size} bytes, too short for a kernel` : 'a file of another kind';
}

/** The digest, and the version in "Linux version VERSION (", which an uncompressed kernel holds. */
async function scan(handle: FileHandle, size: number, path: string) {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(CHUNK + 256);
  let [done, kept] = [0, 0];
  let banner: string | undefined;
  while (done < size) {
    const { bytesRead } = await handle.read(buffer, kept, Math.min(CHUNK, size - done), done);
    if (bytesRead === 0) throw bad(path, 'a file that shrank while it was read');
    hash.update(buffer.subarray(kept, kept + bytesRead));
    done += bytesRead;
    const window = buffer.subarray(0, kept + bytesRead);
    banner ??= /Linux version ([0-9]+\.[!-~]{1,100}) \(/.exec(window.toString('latin1'))?.[1];
    kept = Math.min(256, window.length);
    window.copyWithin(0, window.length - kept);
  }
  return { sha256: hash.digest('hex'), banner };
}

async function readAll(handle: FileHandle, into: Buffer): Promise<void> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await handle.read(into, done, into.length - done, done);
    if (bytesRead === 0) return;
    done += bytesRead;
  }
}

const bad = (path: string, found: string) =>
  usageError(
    'ERR_KERNEL_FILE',
    `expected a kernel that boots (an x86 bzImage or an arm64 Image) in ${path}, found ${found}`,
  );

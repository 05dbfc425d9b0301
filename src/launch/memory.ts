const MIB = 1 << 20;

export interface MemoryFacts {
  /** Bytes of the image file. */
  eifBytes: number;
  /** Bytes of its ramdisks: cpio archives without compression, so about what they unpack to. */
  rootBytes: number;
  /** Bytes of the model, sealed or not. */
  modelBytes: number;
}

/** Debian's kernel and its tables, of which the page tables' share grows with the memory; ours needs less. */
const KERNEL_MIB = 96;
/** Node and onnxruntime at work: 150 to 250 MiB were seen. */
const PROGRAM_MIB = 256;

/**
 * The least memory, in MiB, with which an image can be expected to boot and serve; an estimate with a margin, for the two
 * moments that need most:
 *
 * - Unpacking. The kernel keeps the ramdisks in memory while it unpacks them into a tmpfs, which may take half of what is
 *   left: (M - ramdisks - kernel) / 2 >= root, so M >= 3 x root + kernel. Seen under QEMU with Debian's 6.12: a root of
 *   173 MiB boots with 592 MiB and not with 576, so the kernel's share was 56 to 72 MiB there. 3.1 and 96 leave room for
 *   page rounding of many small files, and for other kernels.
 * - Serving. The ramdisks' memory is free again; the root stays, the opened model lies in a tmpfs, and a runtime that loads
 *   it holds it once more, and while it converts it twice.
 */
export function requiredMemoryMib({ eifBytes, rootBytes, modelBytes }: MemoryFacts): number {
  // The kernel's own image is what of the file is not ramdisk; it decompresses to a few times that, in the constant above.
  const kernel = KERNEL_MIB + Math.max(0, eifBytes - rootBytes) / MIB;
  const unpacking = (3.1 * rootBytes) / MIB + kernel;
  const serving = (rootBytes + 3 * modelBytes) / MIB + PROGRAM_MIB + kernel;
  return Math.ceil(Math.max(unpacking, serving));
}

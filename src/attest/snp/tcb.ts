import type { ProductLine } from '../roots/amd.ts';

/** Security patch levels of the firmware's parts; `fmc` is Turin's. */
export type TcbPart = 'fmc' | 'bootloader' | 'tee' | 'snp' | 'microcode';
export type Tcb = Partial<Record<TcbPart, number>>;

/** Which byte of the 8 is whose (SEV-SNP ABI, table "TCB_VERSION": it was arranged anew for Turin). */
const BYTES: Record<ProductLine, [TcbPart, number][]> = {
  Milan: [
    ['bootloader', 0],
    ['tee', 1],
    ['snp', 6],
    ['microcode', 7],
  ],
  Genoa: [
    ['bootloader', 0],
    ['tee', 1],
    ['snp', 6],
    ['microcode', 7],
  ],
  Turin: [
    ['fmc', 0],
    ['bootloader', 1],
    ['tee', 2],
    ['snp', 3],
    ['microcode', 7],
  ],
};

export const tcbParts = (line: ProductLine): TcbPart[] => BYTES[line].map(([part]) => part);

/** Takes the 8 bytes of a TCB version apart; the reserved ones must be zero (null otherwise). */
export function readTcb(bytes: Buffer, line: ProductLine): Tcb | null {
  const known = BYTES[line].map(([, index]) => index);
  if (bytes.some((byte, index) => byte !== 0 && !known.includes(index))) return null;
  return Object.fromEntries(BYTES[line].map(([part, index]) => [part, bytes[index] ?? 0]));
}

/** No part of `a` is newer than that of `b`. */
export const notNewer = (a: Tcb, b: Tcb): boolean =>
  Object.entries(a).every(([part, level]) => level <= (b[part as TcbPart] ?? 0));

export const showTcb = (tcb: Tcb): string =>
  Object.entries(tcb)
    .map(([part, level]) => `${part} ${level}`)
    .join(', ');

/**
 * The product line of a processor by its CPUID family and model (AMD's APM volume 3, Fn0000_0001; models as in the Linux
 * kernel's arch/x86/kernel/cpu/amd.c): Milan 19h 00h-0Fh, Genoa 19h 10h-1Fh, Bergamo and Siena 19h A0h-AFh, Turin 1Ah 00h-1Fh.
 */
export function lineOfCpu({ family, model }: { family: number; model: number }): ProductLine | null {
  if (family === 0x19 && model <= 0x0f) return 'Milan';
  if (family === 0x19 && ((model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf))) return 'Genoa';
  if (family === 0x1a && model <= 0x1f) return 'Turin';
  return null;
}

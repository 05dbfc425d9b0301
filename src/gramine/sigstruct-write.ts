import type { SgxSettings } from './settings.ts';
import { ATTRIBUTE, EXPONENT, HEADER, HEADER2, quotients, SIGSTRUCT_SIZE } from './sigstruct.ts';

const ALL = 0xffff_ffff_ffff_ffffn;

/** XFRM bits of each CPU feature, in the order of `CPU_FEATURES`; AVX-512 holds AVX's too, as Gramine has it. */
const FEATURE_BITS = { avx: 0x4n, avx512: 0xe4n, amx: 0x60000n, mpx: 0x18n, pkru: 0x200n } as const;

/** What a SIGSTRUCT of Gramine has in its attribute fields for these settings: get_enclave_attributes of sgx_sign.py. */
export function enclaveAttributes(settings: SgxSettings) {
  let xfrm = 3n;
  let xfrmMask = 0xffff_ffff_fff9_ff1bn;
  for (const [name, bits] of Object.entries(FEATURE_BITS)) {
    const setting = settings.cpuFeatures[name as keyof typeof FEATURE_BITS];
    if (setting === 'unspecified') continue;
    xfrm = setting === 'required' ? xfrm | bits : xfrm & ~bits;
    xfrmMask |= bits;
  }
  return {
    flags: ATTRIBUTE.mode64 | (settings.debug ? ATTRIBUTE.debug : 0n),
    flagsMask: ALL,
    xfrm,
    xfrmMask,
    miscselect: settings.useExinfo ? 1 : 0,
    miscmask: 0xffff_ffff,
  };
}

/** A SIGSTRUCT that nobody has signed yet; `mrenclave` is hex, `date` is YYYY-MM-DD. */
export function unsignedSigstruct(settings: SgxSettings, mrenclave: string, date: string): Buffer {
  const bytes = Buffer.alloc(SIGSTRUCT_SIZE);
  const { flags, flagsMask, xfrm, xfrmMask, miscselect, miscmask } = enclaveAttributes(settings);
  HEADER.copy(bytes, 0);
  // Digits are written as they read: 2025-01-31 is 0x20250131.
  bytes.writeUInt32LE(Number.parseInt(date.replaceAll('-', ''), 16), 0x14);
  HEADER2.copy(bytes, 0x18);
  bytes.writeUInt32LE(miscselect, 0x384);
  bytes.writeUInt32LE(miscmask, 0x388);
  [flags, xfrm, flagsMask, xfrmMask].forEach((value, index) => {
    bytes.writeBigUInt64LE(value, 0x3a0 + index * 8);
  });
  bytes.write(mrenclave, 0x3c0, 'hex');
  bytes.writeUInt16LE(settings.isvprodid, 0x400);
  bytes.writeUInt16LE(settings.isvsvn, 0x402);
  return bytes;
}

/** Puts a signature (384 bytes, big-endian, already verified) and what the CPU needs to check it into a SIGSTRUCT. */
export function completeSigstruct(sigstruct: Buffer, modulus: Buffer, signature: Buffer): void {
  const little = Buffer.from(signature).reverse();
  const { q1, q2 } = quotients(modulus, little);
  modulus.copy(sigstruct, 0x80);
  sigstruct.writeUInt32LE(EXPONENT, 0x200);
  little.copy(sigstruct, 0x204);
  q1.copy(sigstruct, 0x410);
  q2.copy(sigstruct, 0x590);
}

import { parseSign1 } from '../core/cose.ts';
import { SIMULATED_CONTENT_TYPE } from './simulated-attester.ts';

export type AttestedKind = 'evidence-file' | 'receipt' | 'simulated' | 'nitro' | 'sgx' | 'tdx' | 'snp';

const MOST = 1 << 17;
/** COSE content type of a receipt: application/cwt. */
const CWT = 61;
/** Intel's QE vendor id, at offset 12 of every quote. */
const INTEL_QE = '939a7233f79c4ca9940a0db3957f0607';
const SNP_LENGTH = 1184;

/**
 * What the bytes look like, or null. A guess that chooses a verifier and proves nothing: receipts and some Nitro
 * documents are both COSE tag 18, quotes and SNP reports have no magic.
 */
export function detectKind(bytes: Uint8Array): AttestedKind | null {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (/^\s*\{/.test(buffer.toString('latin1', 0, 64)) && buffer.includes('"atoma-tee-evidence"'))
    return 'evidence-file';
  const cose = coseKind(bytes);
  if (cose !== null) return cose;
  if (buffer.length >= 432 && buffer.toString('hex', 12, 28) === INTEL_QE) {
    const tee = buffer.readUInt32LE(4);
    return buffer.readUInt16LE(0) > 3 && tee === 0x81 ? 'tdx' : 'sgx';
  }
  // Report version 2 to 9, signature algorithm 1 (ECDSA P-384).
  const version = buffer.length === SNP_LENGTH ? buffer.readUInt32LE(0) : 0;
  return version >= 2 && version < 10 && buffer.readUInt32LE(0x34) === 1 ? 'snp' : null;
}

/**
 * True for evidence that carries the simulated content type. A Nitro verifier refuses such a document under any root, and
 * a leaf with the simulated extension too (the chain check does: the extension is critical and unknown to it).
 */
export const isSimulatedDocument = (bytes: Uint8Array): boolean => coseKind(bytes) === 'simulated';

function coseKind(bytes: Uint8Array): AttestedKind | null {
  let header: Map<unknown, unknown>;
  try {
    header = parseSign1(bytes, { what: 'COSE', maxBytes: MOST, tag: 'optional', form: 'any' }).protectedHeader;
  } catch {
    return null;
  }
  const type = header.get(3);
  if (type === SIMULATED_CONTENT_TYPE) return 'simulated';
  if (type === CWT) return 'receipt';
  // QEMU's unsigned documents have an algorithm of -1.
  return type === undefined && header.size === 1 && header.has(1) ? 'nitro' : null;
}

import type { Sign1 } from '../core/cose.ts';
import type { Policy } from './policy.ts';

// Shapes and sizes of a sealed model: sealed-model.md, "Layout".

/** Who can open: kind 1 is a broker, kind 2 the recovery key, others are skipped. `share` is 1..n for brokers, 0 for recovery. */
export interface Recipient {
  kind: number;
  keyId: Uint8Array;
  share: number;
  enc: Uint8Array;
  ciphertext: Uint8Array;
  commitment: Uint8Array;
}
export const KIND = { broker: 1, recovery: 2 } as const;

export interface SealHeader {
  suite: 1;
  /** 16 bytes. */
  sealId: Uint8Array;
  epoch: number;
  /** dCBOR; `policy` is what it says. */
  policyBytes: Uint8Array;
  policy: Policy;
  /** Unix seconds. */
  created: number;
  /** `length` is of the ciphertext, without padding. */
  parts: { id: Uint8Array; length: number }[];
  index: { length: number; sha256: Uint8Array };
  threshold: { t: number; n: number };
  recipients: Recipient[];
  /** Of the content key: CC, 32 bytes. */
  commitment: Uint8Array;
  /** Raw Ed25519 public key, 32 bytes. */
  owner: Uint8Array;
}

export interface ParsedHeader {
  header: SealHeader;
  /** SHA-256 of `bytes`: the header digest that key release binds. */
  digest: Buffer;
  /** From the first byte up to the end of the COSE_Sign1, without padding. */
  bytes: Uint8Array;
  sign1: Sign1;
  /** Where the index begins: the header padded to a multiple of 4096. */
  payloadOffset: number;
}

export const MAGIC = Buffer.from('ATSEAL\x01\n', 'latin1');
/** Magic and length. */
export const PREFIX_LENGTH = 12;
export const ALIGNMENT = 4096;
export const MAX_INDEX = 64 << 20;
/** 16 GiB of plaintext. */
export const MAX_PART = 16 * 2 ** 30;

export const pad = (length: number): number => Math.ceil(length / ALIGNMENT) * ALIGNMENT;

/** Bytes of the whole sealed file that has this header at `payloadOffset`. The last part is padded too. */
export const sealedSize = ({ header, payloadOffset }: Pick<ParsedHeader, 'header' | 'payloadOffset'>): number =>
  header.parts.reduce((sum, part) => sum + pad(part.length), payloadOffset + pad(header.index.length));

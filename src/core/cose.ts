import { type KeyObject, sign, verify } from 'node:crypto';
import { decodeCbor, encodeCbor, Tagged } from './cbor.ts';
import { usageError } from './errors.ts';

/** COSE algorithm numbers (RFC 9053) that this toolkit signs and verifies. */
export const ALG = { EdDSA: -8, ES256: -7, ES384: -35, ES512: -36 } as const;
const HASH: Record<number, string | null> = { [-8]: null, [-7]: 'sha256', [-35]: 'sha384', [-36]: 'sha512' };

/** COSE_Sign1 (RFC 9052 section 4.2), taken apart but not verified. */
export interface Sign1 {
  protectedBytes: Uint8Array;
  protectedHeader: Map<unknown, unknown>;
  unprotectedHeader: Map<unknown, unknown>;
  payload: Uint8Array;
  signature: Uint8Array;
  tagged: boolean;
}

export interface ParseSign1Options {
  what: string;
  maxBytes: number;
  tag: 'required' | 'forbidden' | 'optional';
  /** `deterministic` (default) refuses any envelope that we would not have written. */
  form?: 'deterministic' | 'any';
}

/** Throws `ERR_CBOR_MALFORMED` or `ERR_COSE_MALFORMED` (exit 2). The payload is not decoded. */
export function parseSign1(bytes: Uint8Array, options: ParseSign1Options): Sign1 {
  const { what, maxBytes } = options;
  const form = options.form ?? 'deterministic';
  const fail = (why: string) => usageError('ERR_COSE_MALFORMED', `${what}: ${why}`);
  const outer = decodeCbor(bytes, { what, maxBytes, form, tags: [18] });
  const tagged = outer instanceof Tagged;
  if (tagged && options.tag === 'forbidden') throw fail('expected an untagged COSE_Sign1, found tag 18');
  if (!tagged && options.tag === 'required') throw fail('expected COSE_Sign1 (tag 18), found an untagged item');
  const parts: unknown = tagged ? outer.value : outer;
  if (!Array.isArray(parts) || parts.length !== 4) throw fail('expected an array of 4 (COSE_Sign1)');
  const [protectedBytes, unprotectedHeader, payload, signature] = parts as unknown[];
  if (!(protectedBytes instanceof Uint8Array)) throw fail('the protected header is not a byte string');
  if (!(unprotectedHeader instanceof Map)) throw fail('the unprotected header is not a map');
  if (!(payload instanceof Uint8Array)) throw fail('the payload is not a byte string');
  if (!(signature instanceof Uint8Array)) throw fail('the signature is not a byte string');
  const protectedHeader =
    protectedBytes.length === 0
      ? new Map()
      : decodeCbor(protectedBytes, { what: `${what}: protected header`, maxBytes, form });
  if (!(protectedHeader instanceof Map)) throw fail('the protected header is not a map');
  return { protectedBytes, protectedHeader, unprotectedHeader, payload, signature, tagged };
}

/** The bytes that are signed: Sig_structure of RFC 9052 section 4.4, context "Signature1", empty external data. */
export const sigStructure = (protectedBytes: Uint8Array, payload: Uint8Array): Uint8Array =>
  encodeCbor(['Signature1', protectedBytes, new Uint8Array(0), payload]);

/** Signs and encodes. `header` is the whole protected header, algorithm (label 1) included. */
export function signSign1(
  header: Map<number, unknown>,
  payload: Uint8Array,
  key: KeyObject,
  tagged: boolean,
): Uint8Array {
  const protectedBytes = encodeCbor(header);
  const hash = HASH[header.get(1) as number];
  if (hash === undefined) throw new TypeError('no such COSE algorithm');
  const signature = sign(hash, sigStructure(protectedBytes, payload), { key, dsaEncoding: 'ieee-p1363' });
  const parts = [protectedBytes, new Map(), payload, new Uint8Array(signature)];
  return encodeCbor(tagged ? new Tagged(18, parts) : parts);
}

/** True if the signature is `key`'s under `alg`. The caller has compared `alg` with the protected header. */
export function verifySign1(message: Sign1, alg: number, key: KeyObject): boolean {
  const hash = HASH[alg];
  if (hash === undefined) return false;
  return verify(
    hash,
    sigStructure(message.protectedBytes, message.payload),
    { key, dsaEncoding: 'ieee-p1363' },
    message.signature,
  );
}

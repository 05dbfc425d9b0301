import { type KeyObject, sign, verify } from 'node:crypto';
import { dsse } from '@sigstore/core';
import { curveOf } from '../keys/ec.ts';

/** What is in every envelope of ours: an in-toto statement (in-toto attestation, spec/v1/envelope.md). */
export const IN_TOTO_TYPE = 'application/vnd.in-toto+json';

/** A DSSE envelope (secure-systems-lab/dsse, envelope.md) with its one signature, decoded. */
export interface Envelope {
  payloadType: string;
  payload: Buffer;
  signature: Buffer;
}

/**
 * Signs `payload` as an in-toto statement: ECDSA over the pre-authentication encoding, the hash that goes with the curve, the
 * signature in DER (protocol.md; Sigstore's algorithm registry). Another signature every time.
 */
export function signEnvelope(payload: Buffer, key: KeyObject): Envelope {
  const signature = sign(hashOf(key), dsse.preAuthEncoding(IN_TOTO_TYPE, payload), { key, dsaEncoding: 'der' });
  return { payloadType: IN_TOTO_TYPE, payload, signature };
}

/**
 * Whether `publicKey` signed the envelope: its payload and its type. OpenSSL takes strict DER alone. As everywhere with ECDSA, who has
 * one signature can make a second one for the same bytes (s and n - s), so a signature is no name for what it signs.
 */
export const verifyEnvelope = ({ payloadType, payload, signature }: Envelope, publicKey: KeyObject): boolean =>
  verify(
    hashOf(publicKey),
    dsse.preAuthEncoding(payloadType, payload),
    { key: publicKey, dsaEncoding: 'der' },
    signature,
  );

function hashOf(key: KeyObject): string {
  const hash = curveOf(key)?.hash;
  if (hash === undefined) throw new TypeError('not a key on one of the curves');
  return hash;
}

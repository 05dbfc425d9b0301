import { createHash, type KeyObject } from 'node:crypto';
import type { VerifyEvidenceOptions } from '../../../src/attest/index.ts';
import { encodeCbor, Tagged } from '../../../src/core/cbor.ts';
import { signSign1 } from '../../../src/core/cose.ts';
import {
  basicConstraints,
  newKey,
  type RawCertificate,
  rawCertificate,
  SIGN_CERTIFICATES,
  SIGN_DATA,
} from './certificates.ts';

// Documents as AWS's hardware makes them, under a root of our own: there is no such hardware here.

export const now = new Date('2026-11-22T10:00:00Z');
const keys = { root: newKey(), zonal: newKey(), leaf: newKey() };
const authority = [basicConstraints(true), SIGN_CERTIFICATES];

export const nitroRoot = rawCertificate(
  { subject: 'root', issuer: 'root', publicKey: keys.root.publicKey, extensions: authority },
  keys.root.privateKey,
);

export interface Change {
  header?: Map<number, unknown>;
  unprotected?: Map<unknown, unknown>;
  document?: Record<string, unknown>;
  without?: string[];
  zonal?: Partial<RawCertificate>;
  leaf?: Partial<RawCertificate>;
  /** Other keys than the certificate's. */
  signer?: KeyObject;
  leafKeys?: { publicKey: KeyObject; privateKey: KeyObject };
  tagged?: boolean;
  indefinite?: boolean;
}

export const registers = () => new Map(Array.from({ length: 16 }, (_, i) => [i, Buffer.alloc(48, i + 1)]));

/** A document with anything about it replaced; without a change it verifies under `nitroRoot` at `now`. */
export function nitroDocument(change: Change = {}): Buffer {
  const leafKeys = change.leafKeys ?? keys.leaf;
  const zonal = rawCertificate(
    { subject: 'zonal', issuer: 'root', publicKey: keys.zonal.publicKey, extensions: authority, ...change.zonal },
    keys.root.privateKey,
  );
  const leaf = rawCertificate(
    {
      subject: 'leaf',
      issuer: 'zonal',
      publicKey: leafKeys.publicKey,
      extensions: [basicConstraints(false), SIGN_DATA],
      ...change.leaf,
    },
    keys.zonal.privateKey,
  );
  const document: Record<string, unknown> = {
    module_id: 'i-0123456789abcdef0-enc0123456789abcdef0',
    digest: 'SHA384',
    timestamp: now.getTime(),
    pcrs: registers(),
    certificate: leaf,
    cabundle: [nitroRoot, zonal],
    public_key: null,
    user_data: null,
    nonce: null,
    ...change.document,
  };
  for (const key of change.without ?? []) delete document[key];
  const encoded = Buffer.from(encodeCbor(document));
  const payload = change.indefinite
    ? Buffer.concat([Buffer.from([0xbf]), encoded.subarray(1), Buffer.from([0xff])])
    : encoded;
  const header = change.header ?? new Map([[1, -35]]);
  // Another algorithm in the header still gets a signature of the right length under the right key.
  const algorithm = new Map([...header, [1, -35]]) as Map<number, unknown>;
  const signed = signSign1(
    header.get(1) === -35 ? header : algorithm,
    payload,
    change.signer ?? leafKeys.privateKey,
    false,
  );
  if (header.get(1) === -35 && change.unprotected === undefined && !change.tagged) return Buffer.from(signed);
  const parts = [encodeCbor(header), change.unprotected ?? new Map(), payload, signed.subarray(-96)];
  return Buffer.from(encodeCbor(change.tagged ? new Tagged(18, parts) : parts));
}

export const trust = (more: Partial<VerifyEvidenceOptions> = {}): VerifyEvidenceOptions => ({
  allowSimulated: [],
  now,
  roots: [nitroRoot],
  ...more,
});

/** Numbers from a seed, the same in every run. */
export function seeded(seed: string): (below: number) => number {
  let state = createHash('sha256').update(seed).digest();
  let used = 0;
  return (below) => {
    if (used > state.length - 4) {
      state = createHash('sha256').update(state).digest();
      used = 0;
    }
    const number = state.readUInt32LE(used);
    used += 4;
    return number % below;
  };
}

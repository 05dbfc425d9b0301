import * as z from 'zod';
import { fromBase64 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import type { EnclaveIdentity } from './identity.ts';
import type { Tee } from './types.ts';

/** Room for a quote with its collateral. */
const MOST = 4 << 20;

/** Evidence with the keys that it binds: what `attest`, `run --evidence` and `/.well-known/attestation` give. */
export interface EvidenceFile extends EnclaveIdentity {
  tee: Tee;
  evidence: Uint8Array;
  /** The caller's, or null for boot evidence. */
  nonce: Uint8Array | null;
  /** What a verifier may want beside the evidence, in the shape of endorsement files. Never trusted because it is here. */
  endorsements?: Record<string, unknown>;
}

const base64 = (least: number, most: number) =>
  z.string().transform((text, context) => {
    const bytes = fromBase64(text);
    if (bytes !== null && bytes.length >= least && bytes.length <= most) return bytes;
    context.issues.push({ code: 'custom', message: `expected base64 of ${least} to ${most} bytes`, input: text });
    return z.NEVER;
  });

const schema = z.strictObject({
  kind: z.literal('atoma-tee-evidence'),
  version: z.literal(1),
  tee: z.enum(['nitro', 'sgx', 'tdx', 'snp', 'simulated']),
  evidence: base64(1, 65536),
  ed25519: base64(32, 32),
  keyConfig: base64(1, 4096),
  nonce: base64(16, 64).nullable(),
  endorsements: z.record(z.string(), z.unknown()).optional(),
});

/** The file's bytes: JSON, one object, a line feed at the end. */
export function encodeEvidenceFile(file: EvidenceFile): Buffer {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
  const json = {
    kind: 'atoma-tee-evidence',
    version: 1,
    tee: file.tee,
    evidence: text(file.evidence),
    ed25519: text(file.ed25519),
    keyConfig: text(file.keyConfig),
    nonce: file.nonce === null ? null : text(file.nonce),
    ...(file.endorsements === undefined ? {} : { endorsements: file.endorsements }),
  };
  return Buffer.from(`${JSON.stringify(json, null, 2)}\n`);
}

/** Throws `ERR_EVIDENCE_FILE` (exit 2) with the place of the first problem. Verifies nothing. */
export function parseEvidenceFile(bytes: Uint8Array): EvidenceFile {
  const fail = (why: string, cause?: unknown) => usageError('ERR_EVIDENCE_FILE', `evidence file: ${why}`, { cause });
  if (bytes.length > MOST) throw fail(`expected at most ${MOST} bytes, found ${bytes.length}`);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw fail('not JSON', cause);
  }
  const result = schema.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw fail(`${issue?.path.join('.') || 'top level'}: ${issue?.message ?? 'malformed'}`);
  }
  const { kind: _kind, version: _version, endorsements, ...file } = result.data;
  return { ...file, ...(endorsements === undefined ? {} : { endorsements }) };
}

import type { KeyObject } from 'node:crypto';
import { BUNDLE_V03_LEGACY_MEDIA_TYPE, BUNDLE_V03_MEDIA_TYPE, bundleToJSON, toDSSEBundle } from '@sigstore/bundle';
import * as z from 'zod';
import { fromBase64, hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { type Envelope, signEnvelope } from './dsse.ts';

/** Beside build.intoto.json, where `build` was given a key. */
export const BUNDLE_FILE = 'build.sigstore.json';
/** Larger than the statement of any build or model in base64. */
export const MAX_BUNDLE = 64 << 20;

/** "build.intoto.json" has its signature in "build.sigstore.json". */
export const bundlePath = (manifest: string): string =>
  `${manifest.replace(/\.intoto\.json$|\.json$/, '')}.sigstore.json`;
/** And the other way round. */
export const signedPath = (bundle: string): string => `${bundle.replace(/\.sigstore\.json$|\.json$/, '')}.intoto.json`;

/** By what a bundle says it can be verified: a key that the verifier has, a chain of certificates, or Sigstore's services. */
export type Method = 'key' | 'certificate' | 'sigstore';

export interface SignedBundle {
  method: Method;
  /** Of the key, where it is named; nothing that can be relied on. */
  hint?: string | undefined;
  /** Entries of transparency logs in it. */
  logEntries: number;
  envelope: Envelope;
}

/** How cosign names a public key in a bundle (internal/key/svkeypair.go): base64 of SHA-256 of the SPKI. It reads none. */
export const cosignHint = (key: KeyObject): string =>
  sha256(key.export({ format: 'der', type: 'spki' })).toString('base64');

/** How `model_signing` names it (sign_ec_key.py), and insists on it: hex of SHA-256 of the PEM. */
export const modelSigningHint = (key: KeyObject): string =>
  hex(sha256(Buffer.from(key.export({ format: 'pem', type: 'spki' }) as string)));

/**
 * Signs a statement: a Sigstore bundle v0.3, key method, without transparency log or timestamp, as cosign and model_signing write it
 * (`keyid` empty: the key is named in the material).
 */
export function signBundle(payload: Buffer, key: KeyObject, keyHint: string): Buffer {
  const { payloadType, signature } = signEnvelope(payload, key);
  const bundle = bundleToJSON(toDSSEBundle({ artifact: payload, artifactType: payloadType, signature, keyHint }));
  const json = {
    mediaType: bundle.mediaType,
    verificationMaterial: { publicKey: { hint: keyHint }, tlogEntries: [] },
    dsseEnvelope: { ...bundle.dsseEnvelope, signatures: [{ sig: signature.toString('base64'), keyid: '' }] },
  };
  return Buffer.from(`${JSON.stringify(json, null, 2)}\n`);
}

const base64 = z.string().transform((text, context) => {
  const bytes = fromBase64(text);
  if (bytes !== null && bytes.length > 0) return bytes;
  context.addIssue({ code: 'custom', message: 'expected standard base64 with its padding' });
  return z.NEVER;
});
const certificate = z.strictObject({ rawBytes: base64 });

const material = z.strictObject({
  /** Older writers of model signatures put the key itself there (OpenSSF Model Signing, section 11.1); it is not looked at. */
  publicKey: z
    .strictObject({
      hint: z.string().max(1024).optional(),
      rawBytes: base64.optional(),
      keyDetails: z.string().optional(),
    })
    .optional(),
  certificate: certificate.optional(),
  x509CertificateChain: z.strictObject({ certificates: z.array(certificate).min(1) }).optional(),
  tlogEntries: z.array(z.unknown()).optional(),
  timestampVerificationData: z.unknown().optional(),
});

/** One signature: sigstore-go and sigstore-js refuse more, too. */
const schema = z.strictObject({
  mediaType: z.enum([BUNDLE_V03_MEDIA_TYPE, BUNDLE_V03_LEGACY_MEDIA_TYPE]),
  verificationMaterial: material,
  dsseEnvelope: z.strictObject({
    payload: base64,
    payloadType: z.string().max(256),
    signatures: z.array(z.strictObject({ sig: base64, keyid: z.string().max(1024).nullish() })).length(1),
  }),
});

const METHODS = [
  ['publicKey', 'key'],
  ['x509CertificateChain', 'certificate'],
  ['certificate', 'sigstore'],
] as const;

/**
 * Reads a Sigstore bundle v0.3 with a DSSE envelope, strictly: no unknown fields, standard base64, one signature, one method. Verifies
 * nothing. `what` is for people: "signature of the build manifest". Throws `ERR_BUNDLE_MALFORMED` (exit 2).
 */
export function parseBundle(bytes: Uint8Array, what: string): SignedBundle {
  const malformed = (why: string, cause?: unknown) =>
    usageError('ERR_BUNDLE_MALFORMED', `the ${what} is not a Sigstore bundle v0.3 with one signed envelope: ${why}`, {
      cause,
    });
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    throw malformed('not JSON in UTF-8', cause);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const at = issue?.path.join('.') || 'the whole';
    throw malformed(`${at}: ${issue?.message.slice(0, 200)}`, parsed.error);
  }
  const { verificationMaterial: found, dsseEnvelope } = parsed.data;
  const methods = METHODS.filter(([field]) => found[field] !== undefined).map(([, method]) => method);
  const [method] = methods;
  if (method === undefined || methods.length > 1) {
    throw malformed(`expected one way of verification, found ${methods.join(' and ') || 'none'}`);
  }
  const logEntries = found.tlogEntries?.length ?? 0;
  if (method === 'sigstore' && logEntries === 0)
    throw malformed('a certificate of Sigstore without an entry of its log');
  const { payload, payloadType, signatures } = dsseEnvelope;
  const [{ sig: signature }] = signatures as [{ sig: Buffer }];
  return { method, hint: found.publicKey?.hint, logEntries, envelope: { payload, payloadType, signature } };
}

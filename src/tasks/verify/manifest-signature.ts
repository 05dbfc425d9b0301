import type { KeyObject } from 'node:crypto';
import { hex, sha256 } from '../../core/bytes.ts';
import { compare, fail, pass } from '../../core/check.ts';
import { usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import {
  bundlePath,
  cosignHint,
  MAX_BUNDLE,
  parseBundle,
  type SignedBundle,
  signedPath,
} from '../../manifest/bundle.ts';
import { IN_TOTO_TYPE, verifyEnvelope } from '../../manifest/dsse.ts';
import { MAX_MANIFEST } from '../image.ts';
import type { Findings } from './report.ts';

const WHAT = 'signature of the build manifest';

/** The signature that lies beside a manifest, build.sigstore.json, is by `signer` and over these bytes. None is a failure. */
export async function manifestSignature(
  manifest: string,
  statement: Buffer,
  signer: KeyObject,
  findings: Findings,
): Promise<void> {
  const bytes = await beside(bundlePath(manifest), WHAT, MAX_BUNDLE);
  if (bytes === null) {
    findings.add(fail('signature.present', { expected: bundlePath(manifest), actual: 'no such file' }));
    return;
  }
  const bundle = await findings.step('signature.bundle', () => parseBundle(bytes, WHAT));
  if (bundle === undefined) return;
  checkBundle(bundle, signer, findings);
  samePayload(bundle, statement, findings);
}

/**
 * A signature by itself, build.sigstore.json: by `signer`, and over the build.intoto.json beside it. Gives the bytes that were
 * signed, to be judged as a manifest at that path.
 */
export async function signedManifest(
  path: string,
  signer: KeyObject | undefined,
  findings: Findings,
): Promise<{ path: string; statement: Buffer } | undefined> {
  if (signer === undefined) {
    throw usageError('ERR_NO_EXPECTATION', 'expected to be told whose signature it is, found nothing to compare with', {
      hint: 'give --key BUILD.pub',
    });
  }
  const bytes = await readSmallFile(path, WHAT, MAX_BUNDLE);
  const bundle = await findings.step('signature.bundle', () => parseBundle(bytes, WHAT));
  if (bundle === undefined) return undefined;
  checkBundle(bundle, signer, findings);
  const manifest = signedPath(path);
  const statement = await beside(manifest, 'build manifest', MAX_MANIFEST);
  if (statement === null) findings.add(fail('signature.present', { expected: manifest, actual: 'no such file' }));
  else samePayload(bundle, statement, findings);
  return { path: manifest, statement: bundle.envelope.payload };
}

/** Method, key and type of a signed statement. */
export function checkBundle(
  { method, hint, logEntries, envelope }: SignedBundle,
  signer: KeyObject,
  findings: Findings,
) {
  if (method !== 'key') {
    const detail = 'signed with a certificate, not with a key: `cosign verify-blob-attestation` judges that';
    findings.add(fail('signature.method', { expected: 'key', actual: method, detail }));
    return;
  }
  const valid = verifyEnvelope(envelope, signer);
  const named = hint === undefined || hint === '' ? 'it names none' : hint;
  findings.add(
    compare('signature.payload-type', IN_TOTO_TYPE, envelope.payloadType),
    valid
      ? pass('signature.key', `by the key whose SPKI has SHA-256 ${spkiDigest(signer)}`)
      : fail('signature.key', {
          expected: `a signature by the key ${cosignHint(signer)}`,
          actual: `one that does not hold under it (it names the key ${named})`,
          detail: 'another key signed it, or its bytes were changed',
        }),
  );
  if (logEntries > 0) findings.notChecked.push('entries of a transparency log that the signature carries');
}

function samePayload({ envelope }: SignedBundle, statement: Buffer, findings: Findings): void {
  const [signed, found] = [envelope.payload, statement].map((bytes) => `sha256 ${hex(sha256(bytes))}`);
  const detail = 'what was signed is the build manifest beside it, byte for byte';
  findings.add(compare('signature.payload', String(signed), String(found), signed === found ? detail : undefined));
}

const spkiDigest = (key: KeyObject): string => hex(sha256(key.export({ format: 'der', type: 'spki' })));

async function beside(path: string, what: string, most: number): Promise<Buffer | null> {
  try {
    return await readSmallFile(path, what, most);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ERR_FILE_NOT_FOUND') return null;
    throw error;
  }
}

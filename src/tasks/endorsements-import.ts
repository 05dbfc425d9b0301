import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseQeIdentity } from '../attest/dcap/qe-identity.ts';
import { parseTcbInfo } from '../attest/dcap/tcb-info.ts';
import type { SignedJson } from '../attest/index.ts';
import { hex, sha256 } from '../core/bytes.ts';
import { ioError, writeFileAtomic } from '../core/files.ts';
import { readEndorsements } from './endorsements.ts';

/** One endorsement as it lies in the directory. */
export interface ImportedEndorsement {
  path: string;
  kind: 'certificate' | 'revocation-list' | 'tcb-info' | 'qe-identity';
  /** Whose it is, in words: a name, or an FMSPC. */
  of: string;
  /** Until when it holds (ISO 8601). */
  until: string;
  /** False where the directory had it already. */
  added: boolean;
}

/**
 * `atoma-tee endorsements import`: takes apart what vendors' services returned, as recorded (dcap/import.ts, and AMD's
 * certificates, chains and lists), and puts each piece under a name of its own into `out`, which `--endorsements` takes.
 * Nothing is fetched, and nothing verified: that is for whoever uses them, at their time. What cannot be read is refused
 * before anything is written. Throws `ERR_ENDORSEMENTS_MALFORMED`, `ERR_COLLATERAL_MALFORMED`, `ERR_CERTIFICATE_MALFORMED`,
 * `ERR_CRL_MALFORMED` (exit 2).
 */
export async function importEndorsements(files: string[], out: string): Promise<ImportedEndorsement[]> {
  const { parseCertificate } = await import('../attest/certificate.ts');
  const { parseCrl } = await import('../attest/crl.ts');
  const pieces: Omit<Piece, 'path' | 'added'>[] = [];
  for (const file of files) {
    const { certificates, crls, tcbInfos, qeIdentities } = await readEndorsements(file);
    for (const der of certificates) {
      const { x509, notAfter } = parseCertificate(der, file);
      pieces.push({ kind: 'certificate', of: commonName(x509.subject), until: notAfter, bytes: Buffer.from(der) });
    }
    for (const der of crls) {
      const { nextUpdate, issuerText } = parseCrl(der, file);
      pieces.push({ kind: 'revocation-list', of: issuerText, until: nextUpdate, bytes: Buffer.from(der) });
    }
    for (const signed of tcbInfos) {
      const { id, fmspc, nextUpdate } = parseTcbInfo(signed.body);
      pieces.push({ kind: 'tcb-info', of: `${id} ${fmspc}`, until: nextUpdate, bytes: response('tcbInfo', signed) });
    }
    for (const signed of qeIdentities) {
      const { id, nextUpdate } = parseQeIdentity(signed.body);
      pieces.push({ kind: 'qe-identity', of: id, until: nextUpdate, bytes: response('enclaveIdentity', signed) });
    }
  }
  return store(pieces, out);
}

interface Piece extends Omit<ImportedEndorsement, 'until'> {
  until: Date;
  bytes: Buffer;
}

const EXTENSION = { certificate: 'der', 'revocation-list': 'crl', 'tcb-info': 'json', 'qe-identity': 'json' };

async function store(pieces: Omit<Piece, 'path' | 'added'>[], out: string): Promise<ImportedEndorsement[]> {
  try {
    await mkdir(out, { recursive: true });
  } catch (error) {
    throw ioError(error, `cannot make ${out}`);
  }
  const stored = new Map<string, ImportedEndorsement>();
  for (const { kind, of, until, bytes } of pieces) {
    // The name is the content's: an import twice changes nothing, and no piece takes another's place.
    const path = join(out, `${kind}-${hex(sha256(bytes)).slice(0, 16)}.${EXTENSION[kind]}`);
    if (stored.has(path)) continue;
    const added = !(await exists(path));
    if (added) await writeFileAtomic(path, bytes);
    stored.set(path, { path, kind, of, until: until.toISOString(), added });
  }
  return [...stored.values()];
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** As Intel's services send it: the signed bytes as they were. */
const response = (name: string, { body, signature }: SignedJson): Buffer =>
  Buffer.concat([Buffer.from(`{"${name}":`), body, Buffer.from(`,"signature":"${hex(signature)}"}`)]);

const commonName = (subject: string): string => /^CN=(.*)$/m.exec(subject)?.[1] ?? subject.replaceAll('\n', ', ');

import 'reflect-metadata';
import { verify } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { type Check, fail, pass, skipped } from '../core/check.ts';
import { usageError } from '../core/errors.ts';
import { type Certificate, KEY_USAGE, Malformed, readSerial } from './certificate.ts';

/** A certificate revocation list (RFC 5280 section 5), parsed but not verified. */
export interface Crl {
  /** DER of the name. */
  issuer: Uint8Array;
  /** The same name, for people. */
  issuerText: string;
  thisUpdate: Date;
  /** RFC 5280 asks for it; a list without an end would hold for ever, so it is refused. */
  nextUpdate: Date;
  /** Serial numbers as `Certificate.serial` has them. */
  revoked: Set<string>;
  /** The bytes under the signature, and the signature with its algorithm. */
  signed: Buffer;
  signature: Buffer;
  algorithm: string;
}

const MOST_BYTES = 1 << 20;
const LIMITS = { berOptions: { maxDepth: 16, maxNodes: 1 << 18, maxContentLength: MOST_BYTES } };

/** Object identifiers: ecdsa-with-SHA256, ecdsa-with-SHA384, RSASSA-PSS. */
const SIGNED_BY = {
  'P-256': '1.2.840.10045.4.3.2',
  'P-384': '1.2.840.10045.4.3.3',
  'RSA-4096': '1.2.840.113549.1.1.10',
} as const;
const PSS = { padding: 6, saltLength: 48 };

class Parsed extends x509.X509Crl {
  get fields() {
    return this.asn;
  }

  encode(): Buffer {
    // Without the raw bytes, so that what is written is what was understood.
    const { tbsCertList, signatureAlgorithm, signature } = this.asn;
    const asn = Object.assign(Object.create(Object.getPrototypeOf(this.asn)), {
      tbsCertList,
      signatureAlgorithm,
      signature,
    });
    return Buffer.from(new x509.X509Crl(asn).rawData);
  }
}

/** Parses one DER CRL. `what` names it in errors. Throws `ERR_CRL_MALFORMED` (exit 2). Verifies nothing. */
export function parseCrl(bytes: Uint8Array, what: string): Crl {
  try {
    return read(Buffer.from(bytes));
  } catch (cause) {
    const why = cause instanceof Malformed ? cause.message : 'not an X.509 revocation list in DER';
    throw usageError('ERR_CRL_MALFORMED', `${what}: ${why}`, { cause });
  }
}

function read(der: Buffer): Crl {
  if (der.length > MOST_BYTES) throw new Malformed(`expected at most ${MOST_BYTES} bytes, found ${der.length}`);
  const parsed = new Parsed(der, LIMITS);
  const { tbsCertList, tbsCertListRaw, signatureAlgorithm, signature } = parsed.fields;
  if (tbsCertListRaw === undefined || !parsed.encode().equals(der)) throw new Malformed('not DER, or bytes left over');
  if (tbsCertList.version !== 1) throw new Malformed('expected a version 2 list');
  if (!tbsCertList.signature.isEqual(signatureAlgorithm)) throw new Malformed('two signature algorithms');
  const entries = tbsCertList.revokedCertificates ?? [];
  // A critical extension changes what the list means: it covers a part only, it is a delta, it speaks for other issuers.
  const extensions = [...(tbsCertList.crlExtensions ?? []), ...entries.flatMap((e) => e.crlEntryExtensions ?? [])];
  const critical = extensions.find((extension) => extension.critical);
  if (critical) throw new Malformed(`unknown critical extension ${critical.extnID}`);
  if (tbsCertList.nextUpdate === undefined) throw new Malformed('it does not say when it ends');
  return {
    issuer: Buffer.from(parsed.issuerName.toArrayBuffer()),
    issuerText: parsed.issuer,
    thisUpdate: wholeSecond(tbsCertList.thisUpdate.getTime()),
    nextUpdate: wholeSecond(tbsCertList.nextUpdate.getTime()),
    revoked: new Set(entries.map(({ userCertificate }) => readSerial(Buffer.from(userCertificate)))),
    signed: Buffer.from(tbsCertListRaw),
    signature: Buffer.from(signature),
    algorithm: signatureAlgorithm.algorithm,
  };
}

function wholeSecond(time: Date): Date {
  if (!(time.getTime() % 1000 === 0)) throw new Malformed('a time is not in the form of RFC 5280');
  return time;
}

const signers = new WeakMap<Crl, WeakMap<Certificate, boolean>>();

/** Found out once for a list and an issuer, as with certificates: whoever keeps a list has it checked once. */
function isSignedBy(crl: Crl, issuer: Certificate): boolean {
  const known = signers.get(crl) ?? new WeakMap<Certificate, boolean>();
  signers.set(crl, known);
  const result = known.get(issuer) ?? verifySignature(crl, issuer);
  known.set(issuer, result);
  return result;
}

function verifySignature(crl: Crl, issuer: Certificate): boolean {
  const key = { key: issuer.x509.publicKey, ...(issuer.key === 'RSA-4096' ? PSS : {}) };
  return verify(issuer.key === 'P-256' ? 'sha256' : 'sha384', crl.signed, key, crl.signature);
}

/** Why a list does not count for what `issuer` signed, at that time; undefined where it does. */
export function crlProblem(crl: Crl, issuer: Certificate, at: Date): string | undefined {
  if (Buffer.compare(crl.issuer, issuer.subject) !== 0) return 'its issuer is another name';
  if (!issuer.ca || ((issuer.keyUsage ?? 0) & KEY_USAGE.cRLSign) === 0)
    return 'its issuer may not sign revocation lists';
  if (issuer.key === 'other' || SIGNED_BY[issuer.key] !== crl.algorithm) return 'its algorithm is not its issuer’s';
  if (!isSignedBy(crl, issuer)) return 'the signature is not its issuer’s';
  return timeProblem(crl, at);
}

function timeProblem(crl: Crl, at: Date): string | undefined {
  if (at < crl.thisUpdate || at > crl.nextUpdate) {
    return `it holds from ${crl.thisUpdate.toISOString()} to ${crl.nextUpdate.toISOString()}, not at ${at.toISOString()}`;
  }
  return undefined;
}

/**
 * Checks that `issuer` did not revoke `certificates` (all issued by it), by whichever of the lists is of its name. Without
 * one the check is `skipped` (the verdict says what was not checked); a list of that name that does not hold, fails.
 */
export function checkRevocation(
  id: string,
  certificates: Certificate[],
  issuer: Certificate,
  crls: Crl[],
  at: Date,
): Check {
  const own = crls.filter((crl) => Buffer.compare(crl.issuer, issuer.subject) === 0);
  if (own.length === 0) return skipped(id, 'no revocation list of the issuer was given');
  const problems = own.map((crl) => crlProblem(crl, issuer, at));
  // A later list says what was found out since: whoever has a key that was revoked can choose the time of what it signs.
  const later = own.filter((crl) => crl.thisUpdate > at && crlProblem(crl, issuer, crl.thisUpdate) === undefined);
  const since = certificates.find(({ serial }) => later.some((crl) => crl.revoked.has(serial)));
  if (since) return fail(id, { expected: 'not revoked', actual: `serial ${since.serial} was revoked since` });
  const good = own.filter((_, index) => problems[index] === undefined);
  if (good.length === 0) return fail(id, { detail: `the revocation list: ${problems[0]}` });
  const revoked = certificates.find(({ serial }) => good.some((crl) => crl.revoked.has(serial)));
  if (revoked) return fail(id, { expected: 'not revoked', actual: `serial ${revoked.serial} is revoked` });
  return pass(id, `list of ${good[0]?.thisUpdate.toISOString()}`);
}

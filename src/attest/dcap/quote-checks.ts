import { hex, isZero, sha256 } from '../../core/bytes.ts';
import { type Check, compare, fail, pass, skipped } from '../../core/check.ts';
import type { Certificate } from '../certificate.ts';
import { p256Key, verifyP256 } from './ecdsa.ts';
import type { QeIdentity } from './qe-identity.ts';
import type { Quote, QuoteBody } from './quote.ts';
import type { SgxReport } from './report.ts';

const bits = (...numbers: number[]): bigint => numbers.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);

/** SGX ATTRIBUTES.FLAGS (Intel SDM volume 3D, section 35.7.1). */
const SGX_DEBUG = bits(1);
/** INIT, DEBUG, MODE64BIT, PROVISIONKEY, EINITTOKENKEY, CET, KSS, AEXNOTIFY. */
const SGX_KNOWN = bits(0, 1, 2, 4, 5, 6, 7, 10);
/** TD ATTRIBUTES (Intel TDX Module ABI): bits 0 to 7 open the domain to others, to debug it or to profile it. */
const TD_DEBUG = 0xffn;
const TD_SEPT_VE_DISABLE = bits(28);
const TD_MIGRATABLE = bits(29);
/** ICSSD, LASS, SEPT_VE_DISABLE, MIGRATABLE, PKS, KL, TPA, PERFMON. */
const TD_KNOWN = TD_DEBUG | bits(16, 27, 28, 29, 30, 31, 62, 63);

const flagsOf = (attributes: Buffer): bigint => attributes.readBigUInt64LE(0);

/** True for a debug enclave or a domain with any bit of the group "TD under debug". */
export const isDebug = (body: QuoteBody): boolean =>
  body.tee === 'sgx'
    ? (flagsOf(body.report.attributes) & SGX_DEBUG) !== 0n
    : (flagsOf(body.report.tdAttributes) & TD_DEBUG) !== 0n;

/** The chain from the PCK key to the attestation key to the quote. */
export function checkSignatures(quote: Quote, pck: Certificate | undefined): Check[] {
  const { qeReport, qeReportSignature, attestationKey, qeAuthData } = quote;
  // Intel checks the first half of the report data only; the second half is zero in every quoting enclave of Intel's.
  const bound = Buffer.concat([sha256(attestationKey, qeAuthData), Buffer.alloc(32)]);
  const key = p256Key(attestationKey);
  return [
    pck !== undefined && verifyP256(pck.x509.publicKey, qeReport.bytes, qeReportSignature)
      ? pass('evidence.qe-report', 'ECDSA P-256 by the PCK certificate')
      : fail('evidence.qe-report', {
          detail: 'the report of the quoting enclave is not signed by the PCK certificate',
        }),
    bound.equals(qeReport.reportData)
      ? pass('evidence.qe-binding', 'the report of the quoting enclave names the attestation key')
      : fail('evidence.qe-binding', { expected: hex(bound), actual: hex(qeReport.reportData) }),
    key !== null && verifyP256(key, quote.signed, quote.signature)
      ? pass('evidence.signature', 'ECDSA P-256 by the attestation key')
      : fail('evidence.signature', { detail: 'the signature is not the attestation key’s over this quote' }),
  ];
}

/** The quoting enclave is Intel's: signer, product, and the bits of its report that the identity fixes. */
export function checkQe(report: SgxReport, identity: QeIdentity | undefined, tee: 'sgx' | 'tdx'): Check[] {
  const debug = (flagsOf(report.attributes) & SGX_DEBUG) !== 0n;
  return [
    identity === undefined
      ? skipped('evidence.qe', 'there is no QE identity')
      : (compareQe(report, identity, tee) ?? pass('evidence.qe', `${identity.id}, ISVSVN ${report.isvSvn}`)),
    compare('evidence.qe-debug', 'off', debug ? 'on: a debug quoting enclave signs anything' : 'off'),
  ];
}

function compareQe(report: SgxReport, identity: QeIdentity, tee: 'sgx' | 'tdx'): Check | undefined {
  const masked = (bytes: Buffer, mask: string) =>
    hex(Buffer.from(mask, 'hex').map((byte, index) => byte & (bytes[index] ?? 0)));
  const facts: [string, string | number, string | number][] = [
    ['id', tee === 'sgx' ? 'QE' : 'TD_QE', identity.id],
    ['MRSIGNER', identity.mrsigner, hex(report.mrsigner)],
    ['ISVPRODID', identity.isvProdId, report.isvProdId],
    ['MISCSELECT', identity.miscSelect, masked(report.miscSelect, identity.miscSelectMask)],
    ['ATTRIBUTES', identity.attributes, masked(report.attributes, identity.attributesMask)],
  ];
  const wrong = facts.find(([, expected, actual]) => expected !== actual);
  return wrong && fail('evidence.qe', { expected: `${wrong[0]} ${wrong[1]}`, actual: `${wrong[0]} ${wrong[2]}` });
}

/** What a report's attributes allow others to do with the enclave or the domain. */
export function checkAttributes(body: QuoteBody): Check[] {
  const debug = compare('evidence.debug', 'off', isDebug(body) ? DEBUG[body.tee] : 'off');
  return body.tee === 'sgx'
    ? [checkSgxAttributes(flagsOf(body.report.attributes)), debug]
    : [checkTdAttributes(flagsOf(body.report.tdAttributes)), checkMigration(body.report), debug];
}

const DEBUG = {
  sgx: 'on: a debug enclave, its memory is open to the host',
  tdx: 'on: a debug domain, its memory is open to the host',
} as const;

function checkSgxAttributes(flags: bigint): Check {
  const id = 'evidence.attributes';
  return unknownBits(id, flags & ~SGX_KNOWN) ?? pass(id, `0x${flags.toString(16)}`);
}

function checkTdAttributes(flags: bigint): Check {
  const id = 'evidence.attributes';
  const pending =
    (flags & TD_SEPT_VE_DISABLE) === 0n ? '; SEPT_VE_DISABLE is off: the guest has to guard against #VE itself' : '';
  return unknownBits(id, flags & ~TD_KNOWN) ?? pass(id, `0x${flags.toString(16)}${pending}`);
}

const unknownBits = (id: string, bits: bigint): Check | undefined =>
  bits === 0n ? undefined : fail(id, { expected: 'reserved attributes off', actual: `0x${bits.toString(16)} is on` });

/** A service domain can move a domain, memory and all, to a machine that this quote says nothing of. */
function checkMigration({ tdAttributes, mrServiceTd }: Extract<QuoteBody, { tee: 'tdx' }>['report']): Check {
  const id = 'evidence.migration';
  const migratable = (flagsOf(tdAttributes) & TD_MIGRATABLE) !== 0n;
  if (mrServiceTd !== undefined && !isZero(mrServiceTd)) {
    return fail(id, { expected: 'no service domain', actual: `service domain ${hex(mrServiceTd)}` });
  }
  return compare(id, 'off', migratable ? 'on: the domain may be moved to another machine' : 'off');
}

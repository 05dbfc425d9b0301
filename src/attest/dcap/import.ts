import { fromHex } from '../../core/bytes.ts';
import { usageError } from '../../core/errors.ts';
import { fromPem } from '../roots/pinned.ts';
import type { Endorsements, SignedJson } from '../types.ts';
import { memberSpans } from './json-spans.ts';
import { readPemChain } from './pem.ts';

const MOST_BYTES = 16 << 20;

/**
 * Headers in which PCS and PCCS send issuer chains, as PEM in percent encoding ("Intel SGX and TDX PCS API", versions 3
 * and 4).
 */
const CHAIN_HEADERS = [
  'tcb-info-issuer-chain',
  'sgx-tcb-info-issuer-chain',
  'sgx-enclave-identity-issuer-chain',
  'sgx-pck-crl-issuer-chain',
  'sgx-pck-certificate-issuer-chain',
];
/** Members of the collateral files that PCCS clients write (evidence.md, "Endorsement files"). */
const CHAINS = [
  'pck_crl_issuer_chain',
  'tcb_info_issuer_chain',
  'qe_identity_issuer_chain',
  'pck_certificate_chain',
] as const;
const CRLS = ['root_ca_crl', 'pck_crl'] as const;
const PEM_CRL = '-----BEGIN X509 CRL-----';

/**
 * Reads what Intel's PCS, a PCCS or a client of theirs returned, as recorded: a collateral file, TCB info, QE identity, PCK
 * certificates, a CRL in hex; each also with the HTTP head before it (`curl -i`), which holds the issuer chains. Returns
 * null for bytes that are none of these. The bytes that are signed stay as they were; nothing is verified.
 * Throws `ERR_COLLATERAL_MALFORMED` (exit 2).
 */
export function importIntel(bytes: Uint8Array): Endorsements | null {
  if (bytes.length > MOST_BYTES) return null;
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const { headers, body } = splitHead(whole);
  const found: Endorsements = { certificates: [], crls: [], tcbInfos: [], qeIdentities: [] };
  for (const name of CHAIN_HEADERS) {
    const value = headers?.get(name);
    if (value !== undefined) found.certificates.push(...pem(percentDecoded(value, name), name));
  }
  if (body[0] === 0x30 && headers !== undefined) {
    // A DER sequence under a head of PCS is a CRL: certificates come as PEM.
    return { ...found, crls: [Buffer.from(body)] };
  }
  const text = decoded(body);
  const trimmed = text?.trim() ?? '';
  if (/^30[0-9a-f]{60,}$/i.test(trimmed)) return { ...found, crls: [hexBytes(trimmed, 'revocation list')] };
  if (headers !== undefined && trimmed.startsWith('-----BEGIN CERTIFICATE-----')) {
    return { ...found, certificates: [...found.certificates, ...pem(trimmed, 'the answer')] };
  }
  if (headers !== undefined && trimmed.startsWith(PEM_CRL))
    return { ...found, crls: [crlBytes(trimmed, 'the answer')] };
  const recognised = text !== undefined && /^\s*[{[]/.test(text) && readJson(text, found);
  return recognised ? found : null;
}

/** An HTTP/1 or HTTP/2 head as curl prints it; of several (redirects, proxies) the last. */
function splitHead(whole: Buffer): { headers?: Map<string, string>; body: Buffer } {
  let body = whole;
  let headers: Map<string, string> | undefined;
  while (/^HTTP\/[\d.]+ \d{3}/.test(body.toString('latin1', 0, 16))) {
    const end = body.indexOf('\r\n\r\n');
    if (end < 0) throw malformed('an HTTP head without an end');
    const lines = body.toString('latin1', 0, end).split('\r\n').slice(1);
    headers = new Map(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, Math.max(0, colon)).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    body = body.subarray(end + 4);
  }
  return headers === undefined ? { body } : { headers, body };
}

/** True if it was a shape that Intel's services or their clients use. */
function readJson(text: string, found: Endorsements): boolean {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return false;
  }
  if (Array.isArray(json)) return readPckCertificates(json, found);
  if (typeof json !== 'object' || json === null) return false;
  const members = json as Record<string, unknown>;
  const direct = 'tcbInfo' in members || 'enclaveIdentity' in members;
  const flat = 'tcb_info' in members || 'qe_identity' in members || CRLS.some((name) => name in members);
  if (direct) readAnswer(text, members, found);
  if (flat) readFlat(members, found);
  return direct || flat;
}

/** `{"tcbInfo": {...}, "signature": "hex"}` and the same with "enclaveIdentity". */
function readAnswer(text: string, members: Record<string, unknown>, found: Endorsements): void {
  const spans = memberSpans(text);
  if (spans === null) throw malformed('a member appears twice');
  const info = spans.get('tcbInfo');
  const identity = spans.get('enclaveIdentity');
  if (info !== undefined && identity !== undefined) throw malformed('one signature for two objects');
  const signed = signedJson(info ?? identity ?? '', members.signature, 'signature');
  (info === undefined ? found.qeIdentities : found.tcbInfos).push(signed);
}

/** Everything for one quote in one object: PEM chains, CRLs in hex, signed JSON as strings with hex signatures. */
function readFlat(members: Record<string, unknown>, found: Endorsements): void {
  const string = (name: string): string | undefined => {
    const value = members[name];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'string') throw malformed(`${name}: expected a string`);
    return value;
  };
  for (const name of CHAINS) {
    const value = string(name);
    if (value !== undefined) found.certificates.push(...pem(value, name));
  }
  for (const name of CRLS) {
    const value = string(name);
    if (value !== undefined) found.crls.push(crlBytes(value, name));
  }
  const info = string('tcb_info');
  if (info !== undefined) found.tcbInfos.push(signedJson(info, members.tcb_info_signature, 'tcb_info_signature'));
  const identity = string('qe_identity');
  if (identity !== undefined) {
    found.qeIdentities.push(signedJson(identity, members.qe_identity_signature, 'qe_identity_signature'));
  }
}

/** `[{"tcb": ..., "tcbm": ..., "cert": "PEM in percent encoding"}, ...]`: the PCK certificates of one machine. */
function readPckCertificates(list: unknown[], found: Endorsements): boolean {
  const certificates = list.map((item) => (item as { cert?: unknown } | null)?.cert);
  if (list.length === 0 || !certificates.every((one) => typeof one === 'string')) return false;
  for (const text of certificates) {
    if (text !== 'Not available') found.certificates.push(...pem(percentDecoded(text, 'cert'), 'cert'));
  }
  return true;
}

function signedJson(body: string, signature: unknown, name: string): SignedJson {
  const raw = typeof signature === 'string' ? fromHex(signature) : null;
  if (raw === null || raw.length !== 64) throw malformed(`${name}: expected 64 bytes in hex`);
  return { body: Buffer.from(body, 'utf8'), signature: raw };
}

function pem(text: string, name: string): Buffer[] {
  const ders = readPemChain(text);
  if (ders === null) throw malformed(`${name}: expected certificates in PEM`);
  return ders;
}

/** PCS sends PEM unless it is asked for DER; PCCS sends hex. */
function crlBytes(text: string, name: string): Buffer {
  if (!text.startsWith(PEM_CRL)) return hexBytes(text, name);
  const [der, ...more] = fromPem(text, 'X509 CRL');
  if (der === undefined || more.length > 0) throw malformed(`${name}: expected one revocation list in PEM`);
  return der;
}

function hexBytes(text: string, name: string): Buffer {
  const raw = fromHex(text);
  if (raw === null || raw.length === 0) throw malformed(`${name}: expected hex`);
  return raw;
}

function percentDecoded(text: string, name: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw usageError('ERR_COLLATERAL_MALFORMED', `collateral: ${name}: not in percent encoding`, { cause });
  }
}

function decoded(body: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return undefined;
  }
}

const malformed = (why: string) => usageError('ERR_COLLATERAL_MALFORMED', `collateral: ${why}`);

import { fromHex } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { fromPem } from './roots/pinned.ts';
import type { Endorsements, SignedJson } from './types.ts';

// One file of endorsements, by what is in it: the forms of evidence.md, "Endorsement files".

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const VERSION = 0xa0;
const SIGNATURE = '[0-9a-fA-F]{128}';
/** What Intel's PCS returns: an object and the signature over exactly its bytes, in either order. */
const SIGNED = [
  new RegExp(
    `^\\s*\\{\\s*"(tcbInfo|enclaveIdentity)"\\s*:\\s*(.*?)\\s*,\\s*"signature"\\s*:\\s*"(${SIGNATURE})"\\s*\\}\\s*$`,
    's',
  ),
  new RegExp(
    `^\\s*\\{\\s*"signature"\\s*:\\s*"(${SIGNATURE})"\\s*,\\s*"(tcbInfo|enclaveIdentity)"\\s*:\\s*(.*?)\\s*\\}\\s*$`,
    's',
  ),
] as const;

/**
 * Sorts the bytes of one file: collateral in JSON (the shape of PCCS clients, or one response of Intel's PCS), certificates
 * and revocation lists in PEM, DER or hex. `what` names it in errors. Throws `ERR_ENDORSEMENTS_MALFORMED` (exit 2) for
 * anything else. Parses no certificate and verifies nothing.
 */
export function parseEndorsements(bytes: Uint8Array, what: string): Endorsements {
  const buffer = Buffer.from(bytes);
  if (buffer[0] === SEQUENCE) return derEndorsement(buffer, what);
  const text = buffer.toString('utf8').trim();
  if (text.startsWith('{')) return jsonEndorsements(text, what);
  const [certificates, crls] = [fromPem(text), fromPem(text, 'X509 CRL')];
  if (certificates.length + crls.length > 0) return { certificates, crls, tcbInfos: [], qeIdentities: [] };
  const raw = text === '' ? null : fromHex(text.replace(/\s/g, ''));
  if (raw?.[0] === SEQUENCE) return derEndorsement(raw, what);
  throw malformed(what, 'certificates, revocation lists or Intel collateral');
}

/** All of them in one, in order. */
export const mergeEndorsements = (list: Endorsements[]): Endorsements => ({
  certificates: list.flatMap(({ certificates }) => certificates),
  crls: list.flatMap(({ crls }) => crls),
  tcbInfos: list.flatMap(({ tcbInfos }) => tcbInfos),
  qeIdentities: list.flatMap(({ qeIdentities }) => qeIdentities),
});

/** The signed part of a certificate begins with its version in a tag, that of a revocation list with a number. */
function derEndorsement(der: Buffer, what: string): Endorsements {
  const inner = contentOffset(der, 0);
  const first = der[inner] === SEQUENCE ? der[contentOffset(der, inner)] : undefined;
  if (first === VERSION) return { certificates: [der], crls: [], tcbInfos: [], qeIdentities: [] };
  if (first === INTEGER) return { certificates: [], crls: [der], tcbInfos: [], qeIdentities: [] };
  throw malformed(what, 'an X.509 certificate or revocation list');
}

/** Where the content of the DER item at `offset` begins. */
function contentOffset(der: Buffer, offset: number): number {
  const length = der[offset + 1] ?? 0;
  return offset + 2 + (length >= 0x80 ? length & 0x7f : 0);
}

function jsonEndorsements(text: string, what: string): Endorsements {
  const json = parseObject(text, what);
  const response = signedResponse(text, what);
  if (response) return response;
  const string = (key: string) => {
    const value = json[key];
    if (value === undefined || typeof value === 'string') return value;
    throw malformed(what, `"${key}" as a string`);
  };
  const chain = (key: string) => fromPem(string(key) ?? '');
  const der = (key: string) => {
    const value = string(key);
    const raw = value === undefined ? [] : [fromHex(value)];
    return raw.map((found) => found ?? throwMalformed(what, `"${key}" in hex`));
  };
  const signed = (key: string): SignedJson[] => {
    const [body, signature] = [string(key), string(`${key}_signature`)];
    if (body === undefined) return [];
    return [{ body: Buffer.from(body), signature: signatureOf(signature ?? '', what) }];
  };
  const found = {
    certificates: [
      'pck_crl_issuer_chain',
      'tcb_info_issuer_chain',
      'qe_identity_issuer_chain',
      'pck_certificate_chain',
    ].flatMap(chain),
    crls: ['root_ca_crl', 'pck_crl'].flatMap(der),
    tcbInfos: signed('tcb_info'),
    qeIdentities: signed('qe_identity'),
  };
  if (Object.values(found).every((list) => list.length === 0)) throw malformed(what, 'Intel collateral');
  return found;
}

function signedResponse(text: string, what: string): Endorsements | null {
  const [a, b] = [SIGNED[0].exec(text), SIGNED[1].exec(text)];
  const [name, body, signature] = a ? [a[1], a[2], a[3]] : b ? [b[2], b[3], b[1]] : [];
  if (name === undefined || body === undefined) return null;
  parseObject(body, what);
  const signed = [{ body: Buffer.from(body), signature: signatureOf(signature ?? '', what) }];
  return {
    certificates: [],
    crls: [],
    tcbInfos: name === 'tcbInfo' ? signed : [],
    qeIdentities: name === 'tcbInfo' ? [] : signed,
  };
}

function parseObject(text: string, what: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw malformed(what, 'JSON', cause);
  }
  if (json === null || typeof json !== 'object' || Array.isArray(json)) throw malformed(what, 'a JSON object');
  return json as Record<string, unknown>;
}

function signatureOf(text: string, what: string): Buffer {
  const signature = fromHex(text);
  return signature?.length === 64 ? signature : throwMalformed(what, 'a signature of 64 bytes in hex');
}

function throwMalformed(what: string, expected: string): never {
  throw malformed(what, expected);
}

const malformed = (what: string, expected: string, cause?: unknown) =>
  usageError('ERR_ENDORSEMENTS_MALFORMED', `${what}: expected ${expected}, found something else`, {
    cause,
    hint: 'endorsements are certificates and revocation lists (PEM, DER, hex) and Intel collateral (JSON)',
  });

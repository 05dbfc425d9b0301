import { isUtf8 } from 'node:buffer';
import { DerError, type DerItem, DerReader, readBoolean, readOid, TAG } from './dcap/der.ts';

/**
 * A strict reader of X.509 certificates (RFC 5280 section 4.1): only what attestation chains have, in DER (ITU-T X.690) to
 * the last bit. A library that reads BER and forgives much takes a hundred times as long, and what it understood has to be
 * written again to see whether it was DER.
 */
export interface CertificateFields {
  /** DER of the names. */
  issuer: Buffer;
  subject: Buffer;
  /** Content of the INTEGER. */
  serial: Buffer;
  notBefore: Date;
  notAfter: Date;
  extensions: Map<string, { critical: boolean; value: Buffer }>;
}

const VERSION = 0xa0;
const EXTENSIONS = 0xa3;
const BIT_STRING = 0x03;
const NULL = 0x05;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
/** Octet string; printable, teletex, IA5, visible, universal and BMP string: what names may have besides UTF-8. Times. */
const STRINGS = [TAG.printable, 0x14, 0x16, 0x1a, 0x1c, 0x1e];
const OTHERS: number[] = [TAG.octetString, ...STRINGS, UTC_TIME, GENERALIZED_TIME];
const MOST_DEPTH = 16;
/** Vendors' certificates have fifteen at most. */
const MOST_EXTENSIONS = 64;
const VERSION_3 = Buffer.from([2]);

/** Reads a certificate, all bytes of it. Throws DerError. */
export function readFields(der: Buffer): CertificateFields {
  const outer = new DerReader(der);
  const whole = outer.next(TAG.sequence);
  outer.end();
  checkDer(whole, MOST_DEPTH);
  const parts = new DerReader(whole.content);
  const tbs = parts.enter(TAG.sequence);
  const algorithm = parts.next(TAG.sequence);
  checkAlgorithm(algorithm);
  requireWholeBytes(parts.next(BIT_STRING));
  parts.end();
  const version = tbs.optional(VERSION);
  if (version === undefined) throw new DerError('expected a version 3 certificate');
  const number = new DerReader(version.content);
  if (!number.next(TAG.integer).content.equals(VERSION_3)) throw new DerError('expected a version 3 certificate');
  number.end();
  const serial = tbs.next(TAG.integer).content;
  if (!tbs.next(TAG.sequence).raw.equals(algorithm.raw)) throw new DerError('two signature algorithms');
  const issuer = readName(tbs.next(TAG.sequence));
  const validity = tbs.enter(TAG.sequence);
  const [notBefore, notAfter] = [readTime(validity.any()), readTime(validity.any())];
  validity.end();
  const subject = readName(tbs.next(TAG.sequence));
  const publicKey = tbs.enter(TAG.sequence);
  checkAlgorithm(publicKey.next(TAG.sequence));
  requireWholeBytes(publicKey.next(BIT_STRING));
  publicKey.end();
  const wrapped = tbs.optional(EXTENSIONS);
  tbs.end();
  const extensions = wrapped === undefined ? new Map() : readExtensions(wrapped);
  return { issuer, subject, serial, notBefore, notAfter, extensions };
}

/** A Name: a list of sets of an identifier with a text. Chains compare the bytes. */
function readName({ content, raw }: DerItem): Buffer {
  const sets = new DerReader(content);
  while (!sets.done) {
    const set = sets.enter(TAG.set);
    if (set.done) throw new DerError('an empty part of a name');
    while (!set.done) {
      const attribute = set.enter(TAG.sequence);
      attribute.next(TAG.oid);
      const { tag } = attribute.any();
      if (tag !== TAG.utf8 && !STRINGS.includes(tag)) throw new DerError('a part of a name that is no text');
      attribute.end();
    }
  }
  return raw;
}

/** An AlgorithmIdentifier: an identifier, and parameters or none. */
function checkAlgorithm({ content }: DerItem): void {
  const fields = new DerReader(content);
  fields.next(TAG.oid);
  if (!fields.done) fields.any();
  fields.end();
}

function readExtensions(wrapped: DerItem): CertificateFields['extensions'] {
  const list = new DerReader(wrapped.content);
  const items = list.enter(TAG.sequence);
  list.end();
  if (items.done) throw new DerError('an empty list of extensions');
  const extensions: CertificateFields['extensions'] = new Map();
  while (!items.done) {
    const item = items.enter(TAG.sequence);
    const id = readOid(item.next(TAG.oid));
    const flag = item.optional(TAG.boolean);
    // DER leaves out what is the default.
    if (flag !== undefined && !readBoolean(flag)) throw new DerError('a default value that is written out');
    const { content: value } = item.next(TAG.octetString);
    item.end();
    if (extensions.size === MOST_EXTENSIONS) throw new DerError(`more than ${MOST_EXTENSIONS} extensions`);
    if (extensions.has(id)) throw new DerError(`extension ${id} appears twice`);
    extensions.set(id, { critical: flag !== undefined, value });
  }
  return extensions;
}

/** BasicConstraints (RFC 5280 section 4.2.1.9). Throws DerError. */
export function readBasicConstraints(value: Uint8Array): { ca: boolean; pathLength: number | undefined } {
  const outer = new DerReader(Buffer.from(value));
  const fields = outer.enter(TAG.sequence);
  outer.end();
  const flag = fields.optional(TAG.boolean);
  if (flag !== undefined && !readBoolean(flag)) throw new DerError('a default value that is written out');
  const limit = fields.optional(TAG.integer)?.content;
  fields.end();
  if (limit === undefined) return { ca: flag !== undefined, pathLength: undefined };
  const [pathLength = 0x80] = limit;
  if (flag === undefined || limit.length !== 1 || pathLength >= 0x80) throw new DerError('bad path length');
  return { ca: true, pathLength };
}

/** Every item in it is one that DER could have: nothing in a certificate is read by somebody else in another way. */
function checkDer({ tag, content }: DerItem, depth: number): void {
  const constructed = tag === TAG.sequence || tag === TAG.set || (tag >= 0xa0 && tag <= 0xbf);
  if (!constructed) {
    checkPrimitive(tag, content);
    return;
  }
  if (depth === 0) throw new DerError('nested too deeply');
  const items = new DerReader(content);
  while (!items.done) checkDer(items.any(), depth - 1);
}

function checkPrimitive(tag: number, content: Buffer): void {
  const [first, second = 0] = content;
  switch (tag) {
    case TAG.boolean:
      readBoolean({ tag, content, raw: content });
      return;
    case TAG.integer:
    case TAG.enumerated: {
      const padded = content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80));
      if (first === undefined || padded) throw new DerError('an integer not in its shortest form');
      return;
    }
    case BIT_STRING: {
      const last = content.at(-1) ?? 0;
      const unused = first ?? 8;
      const empty = content.length < 2;
      if (unused > 7 || (empty && unused !== 0) || (!empty && (last & ((1 << unused) - 1)) !== 0)) {
        throw new DerError('a malformed bit string');
      }
      return;
    }
    case NULL:
      if (content.length > 0) throw new DerError('a null with content');
      return;
    case TAG.oid:
      readOid({ tag, content, raw: content });
      return;
    case TAG.utf8:
      if (!isUtf8(content)) throw new DerError('a text that is not UTF-8');
      return;
    default:
      if (!OTHERS.includes(tag)) throw new DerError(`unexpected DER tag 0x${tag.toString(16)}`);
  }
}

/** Keys and signatures are bytes. */
function requireWholeBytes({ content }: DerItem): void {
  if (content[0] !== 0) throw new DerError('a bit string that is not of whole bytes');
}

/** A time in one of the forms of RFC 5280 section 4.1.2.5: to the second, in UTC. */
function readTime({ tag, content }: DerItem): Date {
  const text = content.toString('latin1');
  const digits =
    tag === UTC_TIME
      ? /^(\d{2})(\d{10})Z$/.exec(text)
      : tag === GENERALIZED_TIME
        ? /^(\d{4})(\d{10})Z$/.exec(text)
        : null;
  if (digits === null) throw new DerError('a time is not in the form of RFC 5280');
  const [, given = '', rest = ''] = digits;
  const year = given.length === 4 ? given : `${Number(given) < 50 ? '20' : '19'}${given}`;
  const [month, day, hour, minute, second] = rest.match(/../g) ?? [];
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = new Date(iso);
  // Not every number is a day of a month.
  if (Number.isNaN(time.getTime()) || time.toISOString() !== iso) throw new DerError('a time that does not exist');
  return time;
}

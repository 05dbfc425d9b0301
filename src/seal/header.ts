import type { KeyObject } from 'node:crypto';
import { equalBytes, isZero, sha256 } from '../core/bytes.ts';
import { decodeCbor, encodeCbor } from '../core/cbor.ts';
import { ALG, parseSign1, signSign1, sigStructure } from '../core/cose.ts';
import { isStrictPoint, verifyEd25519Strict } from '../core/ed25519.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { truncated } from './errors.ts';
import { bytesOf, FieldError, listOf, tuple, uintOf } from './fields.ts';
import { floeLength } from './floe.ts';
import {
  KIND,
  MAGIC,
  MAX_INDEX,
  MAX_PART,
  type ParsedHeader,
  PREFIX_LENGTH,
  pad,
  type Recipient,
  type SealHeader,
} from './layout.ts';
import { decodePolicy } from './policy.ts';

// The header of a sealed model. Anyone can read it; only the owner can make it.

export { truncated } from './errors.ts';
export * from './layout.ts';

const MAX_SIGN1 = 1 << 20;
const CONTENT_TYPE = 'application/vnd.atoma.seal+cbor';
const PROTECTED = new Map<number, unknown>([
  [1, ALG.EdDSA],
  [3, CONTENT_TYPE],
]);
const PROTECTED_BYTES = encodeCbor(PROTECTED);

/** Signs and encodes a header, without padding. */
export function encodeHeader(header: Omit<SealHeader, 'policy'>, ownerKey: KeyObject): Buffer {
  const { index, threshold } = header;
  const payload = new Map<number, unknown>([
    [1, header.suite],
    [2, header.sealId],
    [3, header.epoch],
    [4, header.policyBytes],
    [5, header.created],
    [6, header.parts.map((part) => [part.id, part.length])],
    [7, [index.length, index.sha256]],
    [8, [threshold.t, threshold.n]],
    [9, header.recipients.map((r) => [r.kind, r.keyId, r.share, r.enc, r.ciphertext, r.commitment])],
    [10, header.commitment],
    [11, []],
    [12, header.owner],
  ]);
  const sign1 = signSign1(PROTECTED, encodeCbor(payload), ownerKey, true);
  if (sign1.length > MAX_SIGN1) {
    throw usageError(
      'ERR_SEAL_TOO_LARGE',
      `the sealed header would have ${sign1.length} bytes; expected at most ${MAX_SIGN1}`,
    );
  }
  const length = Buffer.alloc(4);
  length.writeUInt32BE(sign1.length);
  return Buffer.concat([MAGIC, length, sign1]);
}

/**
 * How many bytes the header has without padding, from its first PREFIX_LENGTH bytes. Throws `ERR_SEAL_MAGIC`, `ERR_SEAL_TRUNCATED`,
 * `ERR_SEAL_MALFORMED` (exit 2).
 */
export function headerLength(prefix: Uint8Array): number {
  const magic = prefix.subarray(0, MAGIC.length);
  if (!equalBytes(magic, MAGIC.subarray(0, magic.length)) || magic.length === 0) {
    throw usageError(
      'ERR_SEAL_MAGIC',
      'this is not a sealed model: expected a file that begins with ATSEAL, version 1',
    );
  }
  if (prefix.length < PREFIX_LENGTH)
    throw truncated(`expected at least ${PREFIX_LENGTH} bytes, found ${prefix.length}`);
  const length = Buffer.from(prefix).readUInt32BE(MAGIC.length);
  if (length > MAX_SIGN1) throw malformed(`its length is ${length}; expected at most ${MAX_SIGN1}`);
  return PREFIX_LENGTH + length;
}

/**
 * Reads a header from hostile bytes: exactly the header, with or without its zero padding, and nothing after. Pure; verifies no
 * signature. Throws `ERR_SEAL_*`, `ERR_POLICY_*`, `ERR_CBOR_MALFORMED`, `ERR_COSE_MALFORMED` (exit 2).
 */
export function parseHeader(input: Uint8Array): ParsedHeader {
  const end = headerLength(input);
  const payloadOffset = pad(end);
  if (input.length < end) throw truncated(`the header has ${end} bytes, found ${input.length}`);
  if (input.length !== end && input.length !== payloadOffset) {
    throw usageError(
      'ERR_SEAL_TRAILING',
      `expected a header of ${end} bytes or ${payloadOffset} with padding, found ${input.length}`,
    );
  }
  if (!isZero(input.subarray(end)))
    throw usageError('ERR_SEAL_PADDING', 'the padding after the sealed header is not zero');
  const bytes = new Uint8Array(input.subarray(0, end));
  const sign1 = parseSign1(bytes.subarray(PREFIX_LENGTH), {
    what: 'sealed header',
    maxBytes: MAX_SIGN1,
    tag: 'required',
  });
  if (!equalBytes(sign1.protectedBytes, PROTECTED_BYTES))
    throw malformed('expected EdDSA and the content type of a sealed model');
  if (sign1.unprotectedHeader.size !== 0) throw malformed('the unprotected header is not empty');
  const payload = decodeCbor(sign1.payload, { what: 'sealed header', maxBytes: MAX_SIGN1 });
  try {
    return { header: readPayload(payload), digest: sha256(bytes), bytes, sign1, payloadOffset };
  } catch (error) {
    throw error instanceof FieldError ? malformed(error.message) : error;
  }
}

/**
 * Strict Ed25519 by the owner key in the header. With `ownerRaw` the header's owner must be that one (`ERR_SEAL_OWNER`); then the
 * signature (`ERR_SEAL_SIGNATURE`). Both exit 3.
 */
export function verifyHeaderSignature(parsed: ParsedHeader, ownerRaw?: Uint8Array): void {
  const { owner } = parsed.header;
  if (ownerRaw !== undefined && !equalBytes(owner, ownerRaw)) {
    throw negativeError(
      'ERR_SEAL_OWNER',
      `the sealed model belongs to another owner: expected ${Buffer.from(ownerRaw).toString('hex')}, found ${Buffer.from(owner).toString('hex')}`,
    );
  }
  const { protectedBytes, payload, signature } = parsed.sign1;
  if (!verifyEd25519Strict(owner, sigStructure(protectedBytes, payload), signature)) {
    throw negativeError(
      'ERR_SEAL_SIGNATURE',
      "the sealed header's signature is not its owner's: the header was changed",
    );
  }
}

function readPayload(value: unknown): SealHeader {
  if (!(value instanceof Map)) throw malformed('its payload is not a map');
  if (value.get(1) !== 1) {
    throw usageError('ERR_SEAL_SUITE', `the sealed model uses suite ${String(value.get(1))}; expected 1`, {
      hint: 'a newer atoma-tee may read it',
    });
  }
  const critical = value.get(11);
  if (!Array.isArray(critical) || critical.length !== 0) {
    throw usageError('ERR_SEAL_EXTENSION', 'the sealed model needs an extension that this version does not know', {
      hint: 'a newer atoma-tee may read it',
    });
  }
  for (let key = 1; key <= 12; key++) if (!value.has(key)) throw malformed(`field ${key} is missing`);
  if (value.size !== 12) throw malformed('it has a field that this version does not know');

  const policyBytes = bytesOf(value.get(4), 'policy');
  const [indexLength, indexSha256] = tuple(value.get(7), 2, 'index');
  const [t, n] = tuple(value.get(8), 2, 'threshold');
  const header: SealHeader = {
    suite: 1,
    sealId: bytesOf(value.get(2), 'seal id', 16),
    epoch: uintOf(value.get(3), 'epoch', 1, Number.MAX_SAFE_INTEGER),
    policyBytes,
    policy: decodePolicy(policyBytes),
    created: uintOf(value.get(5), 'creation time', 0, Number.MAX_SAFE_INTEGER),
    parts: listOf(value.get(6), 'parts').map(readPart),
    index: {
      length: uintOf(indexLength, 'index length', floeLength(0), MAX_INDEX),
      sha256: bytesOf(indexSha256, 'index digest', 32),
    },
    threshold: { t: uintOf(t, 'threshold', 1, 255), n: uintOf(n, 'number of shares', 1, 255) },
    recipients: listOf(value.get(9), 'recipients').map(readRecipient),
    commitment: bytesOf(value.get(10), 'key commitment', 32),
    owner: bytesOf(value.get(12), 'owner key', 32),
  };
  checkHeader(header);
  return header;
}

function checkHeader({ parts, threshold: { t, n }, recipients, owner }: SealHeader): void {
  if (new Set(parts.map((part) => Buffer.from(part.id).toString('hex'))).size !== parts.length)
    throw malformed('two parts have the same id');
  if (t > n) throw malformed(`its threshold is ${t} of ${n}`);
  if (recipients.length > 256) throw malformed('it has more than 256 recipients');
  const shares = recipients.filter((r) => r.kind === KIND.broker).map((r) => r.share);
  if (shares.length !== n || shares.some((share, i) => share !== i + 1))
    throw malformed(`expected the shares 1 to ${n}, one for each broker`);
  for (const { kind, share, enc, ciphertext } of recipients) {
    if (kind === KIND.recovery && share !== 0) throw malformed('the recovery recipient has a share number');
    if (kind !== KIND.broker && kind !== KIND.recovery) continue;
    const plain = kind === KIND.broker && t > 1 ? 33 : 32;
    if (enc.length !== 1120 || ciphertext.length !== plain + 16)
      throw malformed('a recipient has fields of the wrong length');
  }
  if (!isStrictPoint(owner)) throw malformed('its owner key is not an Ed25519 key');
}

function readPart(value: unknown): { id: Uint8Array; length: number } {
  const [id, length] = tuple(value, 2, 'part');
  const max = floeLength(MAX_PART);
  return { id: bytesOf(id, 'part id', 16), length: uintOf(length, 'part length', floeLength(1), max) };
}

function readRecipient(value: unknown): Recipient {
  const [kind, keyId, share, enc, ciphertext, commitment] = tuple(value, 6, 'recipient');
  return {
    kind: uintOf(kind, 'recipient kind', 0, 0xffff),
    keyId: bytesOf(keyId, 'recipient key id', 16),
    share: uintOf(share, 'share number', 0, 255),
    enc: bytesOf(enc, 'recipient key'),
    ciphertext: bytesOf(ciphertext, 'recipient ciphertext'),
    commitment: bytesOf(commitment, 'share commitment', 32),
  };
}

const malformed = (why: string) => usageError('ERR_SEAL_MALFORMED', `the sealed header is malformed: ${why}`);

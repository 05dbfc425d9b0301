import { fromBase64, sha256, sha512 } from '../core/bytes.ts';
import { decodeCbor, encodeCbor } from '../core/cbor.ts';
import { refusedError } from '../core/errors.ts';
import { refusal } from './refusal.ts';

// The bytes between an enclave and a broker: key-release.md, "Key release".

/** A release request is at most this long: a header (1 MiB), evidence and the rest. */
export const REQUEST_LIMIT = (1 << 20) + (1 << 17);
export const REPLY_LIMIT = 8192;
export const NONCE_LENGTH = 32;
const EVIDENCE_LIMIT = 65536;
const TEES = ['nitro', 'sgx', 'tdx', 'snp', 'simulated'] as const;
const PK_LENGTH = 1216;
const ENC_LENGTH = 1120;
const KEY_ID_LENGTH = 16;

export interface Challenge {
  /** 32 bytes. */
  nonce: Buffer;
  /** Unix seconds. */
  expires: number;
  /**
   * The broker's key id (16 bytes): tells an enclave that was given several addresses which share this one holds. A lie here
   * only makes the release fail, since the binder covers it. Ours sends it; key-release.md does not ask for it.
   */
  broker?: Buffer;
}

export interface ReleaseRequest {
  nonce: Uint8Array;
  tee: (typeof TEES)[number];
  evidence: Uint8Array;
  /** Raw X-Wing public key (1216 bytes), made for this request. */
  pkE: Uint8Array;
  share: number;
  /** The sealed header up to the end of its COSE_Sign1: the bytes that the header digest covers. */
  header: Uint8Array;
}

export interface ReleaseReply {
  enc: Uint8Array;
  ciphertext: Uint8Array;
}

/** What a release is for: 64 bytes (SHA-512), which the evidence carries and the reply is encrypted under. */
export const releaseBinder = (of: {
  nonce: Uint8Array;
  pkE: Uint8Array;
  brokerKeyId: Uint8Array;
  headerDigest: Uint8Array;
  share: number;
}): Buffer =>
  sha512(encodeCbor(['atoma-tee/release/v1', of.nonce, sha256(of.pkE), of.brokerKeyId, of.headerDigest, of.share]));

export const encodeRelease = (request: ReleaseRequest): Uint8Array =>
  encodeCbor(
    new Map<number, unknown>([
      [1, request.nonce],
      [2, request.tee],
      [3, request.evidence],
      [4, request.pkE],
      [5, request.share],
      [6, request.header],
    ]),
  );

/** Closed: nothing else travels with a request, endorsements least of all. Throws `ERR_RELEASE_REQUEST` (exit 4). */
export function decodeRelease(body: Uint8Array): ReleaseRequest {
  const map = decodeMap(body, REQUEST_LIMIT, 6, 'a release request');
  const tee = TEES.find((name) => name === map.get(2));
  if (tee === undefined) throw malformed(`tee: one of ${TEES.join(', ')}`, 'another');
  const share = map.get(5);
  if (typeof share !== 'number' || !Number.isInteger(share) || share < 1 || share > 255) {
    throw malformed('share number: 1 to 255', 'another');
  }
  return {
    nonce: bytes(map.get(1), 'nonce', NONCE_LENGTH, NONCE_LENGTH),
    tee,
    evidence: bytes(map.get(3), 'evidence', 1, EVIDENCE_LIMIT),
    pkE: bytes(map.get(4), 'pkE', PK_LENGTH, PK_LENGTH),
    share,
    header: bytes(map.get(6), 'header', 1, REQUEST_LIMIT),
  };
}

export const encodeReply = (reply: ReleaseReply): Uint8Array =>
  encodeCbor(
    new Map([
      [1, reply.enc],
      [2, reply.ciphertext],
    ]),
  );

/** Throws `ERR_RELEASE_REPLY` (exit 4): it is the broker that answered wrongly. */
export function decodeReply(body: Uint8Array): ReleaseReply {
  try {
    const map = decodeMap(body, REPLY_LIMIT, 2, 'a release reply');
    return {
      enc: bytes(map.get(1), 'enc', ENC_LENGTH, ENC_LENGTH),
      ciphertext: bytes(map.get(2), 'ciphertext', 17, 256),
    };
  } catch (cause) {
    throw refusedError('ERR_RELEASE_REPLY', 'expected a release from the broker, found something else', { cause });
  }
}

export const encodeChallenge = ({ nonce, expires, broker }: Challenge): Buffer =>
  Buffer.from(JSON.stringify({ nonce: nonce.toString('base64'), expires, broker: broker?.toString('base64') }));

/** Throws `ERR_RELEASE_REPLY` (exit 4). */
export function decodeChallenge(body: Uint8Array): Challenge {
  try {
    const json = JSON.parse(Buffer.from(body.subarray(0, REPLY_LIMIT)).toString());
    const nonce = fromBase64(String(json.nonce));
    const broker = json.broker === undefined ? undefined : fromBase64(String(json.broker));
    const { expires } = json;
    if (nonce?.length === NONCE_LENGTH && Number.isSafeInteger(expires)) {
      if (broker === undefined) return { nonce, expires };
      if (broker?.length === KEY_ID_LENGTH) return { nonce, expires, broker };
    }
  } catch {}
  throw refusedError('ERR_RELEASE_REPLY', 'expected a challenge from the broker, found something else');
}

/** Answer to `PUT /v1/epochs`: the epochs in force before and after. */
export interface Epochs {
  previous: number;
  epoch: number;
}

export const encodeEpochs = ({ previous, epoch }: Epochs): Buffer => Buffer.from(JSON.stringify({ previous, epoch }));

/** Throws `ERR_RELEASE_REPLY` (exit 4). */
export function decodeEpochs(body: Uint8Array): Epochs {
  try {
    const { previous, epoch } = JSON.parse(Buffer.from(body.subarray(0, REPLY_LIMIT)).toString());
    if (Number.isSafeInteger(previous) && Number.isSafeInteger(epoch)) return { previous, epoch };
  } catch {}
  throw refusedError('ERR_RELEASE_REPLY', 'expected the epoch in force from the broker, found something else');
}

function decodeMap(body: Uint8Array, maxBytes: number, size: number, what: string): Map<unknown, unknown> {
  let map: unknown;
  try {
    map = decodeCbor(body, { what, maxBytes });
  } catch (cause) {
    throw malformed(what, cause instanceof Error ? cause.message : 'malformed', cause);
  }
  if (!(map instanceof Map)) throw malformed(what, 'not a map');
  const unknown = [...map.keys()].find((key) => !(typeof key === 'number' && key >= 1 && key <= size));
  if (unknown !== undefined)
    throw malformed(`${what} with fields 1 to ${size}`, `field ${String(unknown).slice(0, 20)}`);
  return map;
}

function bytes(value: unknown, name: string, least: number, most: number): Uint8Array {
  const range = least === most ? `${most}` : `${least} to ${most}`;
  if (!(value instanceof Uint8Array)) throw malformed(`${name}: ${range} bytes`, 'no byte string');
  if (value.length < least || value.length > most) throw malformed(`${name}: ${range} bytes`, `${value.length}`);
  return value;
}

const malformed = (expected: string, found: string, cause?: unknown) =>
  refusal('ERR_RELEASE_REQUEST', 'request', expected, found, cause);

import { randomBytes } from 'node:crypto';
import { cmac } from '@noble/ciphers/aes.js';
import { isZero } from '../../core/bytes.ts';
import { badPadding, badSize, badVersion, malformed, notProtected, pendingWrite, wrongKey } from './errors.ts';
import { ENTRY, INLINE, KEY, MAX_SIZE, NODE, PATH_FIELD, pathBytes } from './layout.ts';
import { decryptNode, encryptNode } from './node.ts';

// The first node. In the clear: magic, version, nonce, tag and, since version 2 (Gramine 1.9), flags. Encrypted under a key
// that comes from the wrap key and the nonce: the path, the size, the root's key and tag, the first 3072 bytes of data.

const MAGIC = Buffer.from('GRAFS_PF');
const NONCE_AT = 10;
const TAG_AT = 42;
const FLAGS_AT = 58;
const PENDING_WRITE = 0x01;
const SECRET = PATH_FIELD + 8 + ENTRY + INLINE;
const LABEL = 'SGX-PROTECTED-FS-METADATA-KEY';

export type PfVersion = 1 | 2;

/** What anybody can read of a protected file. */
export interface PfHeader {
  version: PfVersion;
  /** 32 bytes. */
  nonce: Buffer;
  tag: Buffer;
  ciphertext: Buffer;
}

export interface Metadata {
  path: string;
  /** Of the data. */
  size: number;
  /** Key and tag of MHT 0; anything if there is none. */
  root: Buffer;
  /** 3072 bytes, of which `size` count. */
  inline: Buffer;
}

/**
 * Reads the public part of the first 4096 bytes. Throws `ERR_PF_MAGIC`, `ERR_PF_VERSION`, `ERR_PF_RECOVERY`, `ERR_PF_PADDING` or
 * `ERR_PF_SIZE` (exit 2).
 */
export function parseHeader(node: Uint8Array): PfHeader {
  const bytes = Buffer.from(node.buffer, node.byteOffset, node.byteLength);
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw notProtected(bytes.length === 0 ? 'nothing' : 'something else');
  }
  if (bytes.length !== NODE)
    throw badSize(`expected at least ${NODE} bytes of a protected file, found ${bytes.length}`);
  const version = bytes[8] ?? 0;
  if (version !== 1 && version !== 2) throw badVersion('version', version);
  if (bytes[9] !== 0) throw badVersion('minor version', bytes[9] ?? 0);
  const flags = version === 2 ? (bytes[FLAGS_AT] ?? 0) : 0;
  if (flags === PENDING_WRITE) throw pendingWrite();
  if (flags !== 0) throw badVersion('feature flags', flags);
  const at = secretOffset(version);
  if (!isZero(bytes.subarray(at + SECRET))) throw badPadding();
  return {
    version,
    nonce: bytes.subarray(NONCE_AT, TAG_AT),
    tag: bytes.subarray(TAG_AT, FLAGS_AT),
    ciphertext: bytes.subarray(at, at + SECRET),
  };
}

/**
 * Decrypts the rest of it. Throws `ERR_PF_KEY` (exit 3) if it does not authenticate; `ERR_PF_MALFORMED` (exit 3) if whoever holds the
 * key wrote nonsense.
 */
export function openMetadata(header: PfHeader, wrapKey: Uint8Array): Metadata {
  const key = metadataKey(wrapKey, header.nonce);
  const plain = decryptNode(key, header.tag, header.ciphertext);
  key.fill(0);
  if (!plain) throw wrongKey();
  const field = plain.subarray(0, PATH_FIELD);
  const end = field.indexOf(0);
  if (end < 0) throw malformed('its path has no end');
  const size = plain.readBigUInt64LE(PATH_FIELD);
  if (size > BigInt(MAX_SIZE))
    throw malformed(`its size of ${size} bytes is more than the ${MAX_SIZE} that are supported`);
  return {
    path: decodePath(field.subarray(0, end)),
    size: Number(size),
    root: plain.subarray(PATH_FIELD + 8, PATH_FIELD + 8 + ENTRY),
    inline: plain.subarray(PATH_FIELD + 8 + ENTRY),
  };
}

/** The whole first node, under a fresh nonce. Throws `ERR_PF_NAME` (exit 2). */
export function sealMetadata(version: PfVersion, metadata: Metadata, wrapKey: Uint8Array): Buffer {
  const plain = Buffer.alloc(SECRET);
  pathBytes(metadata.path).copy(plain);
  plain.writeBigUInt64LE(BigInt(metadata.size), PATH_FIELD);
  metadata.root.copy(plain, PATH_FIELD + 8);
  metadata.inline.copy(plain, PATH_FIELD + 8 + ENTRY);
  const nonce = randomBytes(32);
  const key = metadataKey(wrapKey, nonce);
  const node = Buffer.alloc(NODE);
  MAGIC.copy(node);
  node[8] = version;
  nonce.copy(node, NONCE_AT);
  encryptNode(node.subarray(secretOffset(version)), key, plain).copy(node, TAG_AT);
  key.fill(0);
  plain.fill(0);
  return node;
}

/** Version 2 put its flags before the ciphertext. */
const secretOffset = (version: PfVersion): number => (version === 1 ? FLAGS_AT : FLAGS_AT + 1);

/** NIST SP 800-108 in counter mode with AES-CMAC: counter 1, label in 64 bytes, nonce, length in bits (kdf_input_t). */
function metadataKey(wrapKey: Uint8Array, nonce: Uint8Array): Uint8Array {
  const input = Buffer.alloc(4 + 64 + 32 + 4);
  input.writeUInt32LE(1, 0);
  input.write(LABEL, 4, 'latin1');
  input.set(nonce, 4 + 64);
  input.writeUInt32LE(8 * KEY, 4 + 64 + 32);
  return cmac(input, wrapKey);
}

function decodePath(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw malformed('its path is not UTF-8');
  }
}

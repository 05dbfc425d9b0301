import { sha256 } from '@noble/hashes/sha2.js';
import { concat, sameBytes } from './cbor.ts';
import { floeDecrypt, floeLength } from './floe.ts';
import { type Header, isPadding, padded, type ReadHeader, readHeader } from './header.ts';
import { hpkeOpen, xwingPublic } from './hpke.ts';
import { decodeIndex, type Index, modelDigest } from './index-part.ts';
import { derive, indexAad, keyId, partAad, shareCommitment, shareInfo } from './keys.ts';
import { Refused } from './refused.ts';
import { combine } from './shamir.ts';

export { modelDigest } from './index-part.ts';
export { type SealInput, seal } from './write.ts';

// A second implementation of docs/sealed-model-format.md, from that page alone: slow, whole files in memory, nothing from src/.

export interface Opened {
  header: ReadHeader;
  index: Index;
  files: Map<string, { bytes: Uint8Array; mode: number }>;
  /** Hex. */
  modelDigest: string;
}

/** X-Wing seeds: the recovery key's, or as many brokers' as the threshold says. */
export type Keys = { recovery: Uint8Array } | { brokers: Uint8Array[] };

/** Everything in the file, or Refused. */
export function open(file: Uint8Array, keys: Keys, owner?: Uint8Array): Opened {
  const header = readHeader(file, owner);
  const ck = contentKey(header, keys);
  const { index } = header;
  const region = file.subarray(header.end, header.end + padded(index.length));
  const sealedIndex = region.slice(0, index.length);
  if (!sameBytes(sha256(sealedIndex), index.sha256)) throw new Refused('ERR_SEAL_TAMPERED', 'index digest');
  if (!isPadding(region.subarray(index.length))) throw new Refused('ERR_SEAL_PADDING', 'index');
  const plain = floeDecrypt(derive(ck, 'index', header.sealId), indexAad(header.sealId), sealedIndex);
  const decoded = decodeIndex(plain, header);
  let at = header.end + region.length;
  const parts = decoded.parts.map((part, i) => {
    const length = floeLength(part.length);
    const plaintext = floeDecrypt(part.key, partAad(part.id, part.length), file.slice(at, at + length));
    if (!isPadding(file.subarray(at + length, at + padded(length))))
      throw new Refused('ERR_SEAL_PADDING', `part ${i + 1}`);
    at += padded(length);
    return plaintext;
  });
  const files = new Map<string, { bytes: Uint8Array; mode: number }>();
  for (const { path, mode, sha256: digest, extents } of decoded.files) {
    const bytes = concat(
      ...extents.map(({ part, offset, length }) =>
        (parts[part - 1] ?? new Uint8Array()).subarray(offset, offset + length),
      ),
    );
    if (!sameBytes(sha256(bytes), digest)) throw new Refused('ERR_SEAL_DIGEST', path);
    files.set(path, { bytes, mode });
  }
  return { header, index: decoded, files, modelDigest: modelDigest(decoded.files) };
}

function contentKey(header: Header, keys: Keys): Uint8Array {
  const ck = 'recovery' in keys ? share(header, 2, keys.recovery) : fromBrokers(header, keys.brokers);
  if (!ck || !sameBytes(derive(ck, 'commit', header.sealId), header.commitment)) throw new Refused('ERR_SEAL_KEY', '');
  return ck;
}

function fromBrokers(header: Header, seeds: Uint8Array[]): Uint8Array | null {
  const shares = seeds.slice(0, header.t).map((seed) => share(header, 1, seed));
  if (shares.length < header.t) throw new Refused('ERR_SEAL_KEY', `${shares.length} of ${header.t} brokers`);
  return header.t === 1 ? (shares[0] ?? null) : combine(shares);
}

function share(header: Header, kind: number, seed: Uint8Array): Uint8Array {
  const id = keyId(xwingPublic(seed));
  const mine = header.recipients.find((r) => r.kind === kind && sameBytes(r.keyId, id));
  if (!mine) throw new Refused('ERR_SEAL_RECIPIENT', '');
  const plaintext = hpkeOpen(seed, mine.enc, mine.ciphertext, shareInfo(header, mine.share));
  if (!plaintext || !sameBytes(shareCommitment(header, mine.share, plaintext), mine.commitment))
    throw new Refused('ERR_SEAL_SHARE', '');
  return plaintext;
}

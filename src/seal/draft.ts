import { randomBytes } from 'node:crypto';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import type { AtomicFile } from '../core/files.ts';
import { ownerPublicRaw } from '../keys/keys.ts';
import type { ModelFile } from '../model/model.ts';
import { writeAll } from './disk.ts';
import { encryptSegment, floeLength, segmentCount, segmentPlain, startEncryption } from './floe.ts';
import { encodeHeader, KIND, MAX_INDEX, pad, type SealHeader } from './header.ts';
import { encodeIndex, type IndexFile, type IndexPart } from './index-part.ts';
import { planParts } from './plan.ts';
import { encodePolicy } from './policy.ts';
import { wrapContentKey } from './recipients.ts';
import type { SealOptions, SealResult } from './seal.ts';
import { indexAad, indexKey, keyCommitment, newContentKey, partAad } from './secrets.ts';

/** Keys, ids and the layout of everything, before any byte of the model is read. */
export async function drawUp(options: SealOptions, files: ModelFile[]) {
  const ck = newContentKey();
  const sealId = randomBytes(16);
  const plan = planParts(files.map(({ size }) => size));
  const parts = plan.parts.map(newPart);
  const context = {
    suite: 1 as const,
    sealId,
    epoch: 1,
    policyBytes: encodePolicy(options.policy),
    owner: ownerPublicRaw(options.ownerKey),
    threshold: { t: options.threshold, n: options.brokers.length },
  };
  const recipients = await wrapContentKey(context, options, ck);

  const index = (digests: Buffer[]): Uint8Array => {
    const indexFiles: IndexFile[] = files.map(({ path, size, mode }, i) => ({
      path,
      size,
      mode,
      sha256: digests[i] ?? sha256(),
      extents: plan.extents[i] ?? [],
    }));
    const indexParts: IndexPart[] = parts.map(({ id, key, length }) => ({ id, key, length }));
    return encodeIndex({ files: indexFiles, parts: indexParts });
  };
  const header = (indexLength: number, indexSha256: Buffer): Omit<SealHeader, 'policy'> => ({
    ...context,
    created: options.created,
    parts: parts.map(({ id, length }) => ({ id, length: floeLength(length) })),
    index: { length: indexLength, sha256: indexSha256 },
    recipients,
    commitment: keyCommitment(ck, sealId),
  });

  // Digests have a fixed length, so the places of everything are known before any of them is.
  const indexLength = floeLength(index([]).length);
  if (indexLength > MAX_INDEX)
    throw usageError('ERR_SEAL_TOO_LARGE', 'the model has more files than a sealed model can list');
  const payloadOffset = pad(encodeHeader(header(indexLength, sha256()), options.ownerKey).length);
  let size = payloadOffset + pad(indexLength);
  const placed = parts.map((part) => {
    const offset = size;
    size += pad(floeLength(part.length));
    return { ...part, offset };
  });

  /** Writes what depends on the digests: FLOE headers, index, header. Padding is what truncate() leaves. */
  const complete = async (file: AtomicFile, digests: Buffer[]): Promise<Omit<SealResult, 'digest' | 'files'>> => {
    await file.handle.truncate(size);
    for (const { header, offset } of placed) writeAll(file.handle.fd, [header], offset);
    const sealedIndex = encryptIndex(index(digests), ck, sealId);
    const bytes = encodeHeader(header(sealedIndex.length, sha256(sealedIndex)), options.ownerKey);
    writeAll(file.handle.fd, [sealedIndex], payloadOffset);
    writeAll(file.handle.fd, [bytes], 0);
    const [broker, recovery] = [KIND.broker, KIND.recovery].map((kind) =>
      recipients.filter((r) => r.kind === kind).map((r) => hex(r.keyId)),
    );
    return {
      path: options.out,
      sealId: hex(sealId),
      headerDigest: hex(sha256(bytes)),
      size,
      epoch: context.epoch,
      owner: hex(context.owner),
      brokers: broker ?? [],
      ...(recovery?.[0] ? { recovery: recovery[0] } : {}),
    };
  };
  return { parts: placed, pieces: plan.pieces, complete };
}

/** A part to be encrypted: its own id and key, and the FLOE header that every thread goes by. */
function newPart(length: number) {
  const [id, key] = [randomBytes(16), randomBytes(32)];
  const aad = partAad(id, length);
  return { id, key, aad, header: startEncryption(key, aad).header, length };
}

function encryptIndex(plain: Uint8Array, ck: Uint8Array, sealId: Uint8Array): Buffer {
  const { header, state } = startEncryption(indexKey(ck, sealId), indexAad(sealId));
  const size = segmentPlain();
  const count = segmentCount(plain.length);
  const segments = Array.from({ length: count }, (_, i) =>
    encryptSegment(state, plain.subarray(i * size, (i + 1) * size), i, i === count - 1),
  );
  return Buffer.concat([header, ...segments]);
}

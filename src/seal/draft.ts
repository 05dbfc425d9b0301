import { randomBytes } from 'node:crypto';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import type { AtomicFile } from '../core/files.ts';
import { ownerPublicRaw } from '../keys/keys.ts';
import type { ModelFile } from '../model/model.ts';
import { writeAll } from './disk.ts';
import { encryptSegment, FLOE_HEADER_LENGTH, floeLength, segmentCount, segmentPlain, startEncryption } from './floe.ts';
import { encodeHeader, KIND, MAX_INDEX, pad, type SealHeader } from './header.ts';
import { type IndexFile, type IndexPart, indexBytes } from './index-part.ts';
import type { JobPart } from './job.ts';
import type { Plan } from './plan.ts';
import { encodePolicy } from './policy.ts';
import { wrapContentKey } from './recipients.ts';
import type { OldSealed } from './reuse.ts';
import type { SealOptions, SealResult } from './seal.ts';
import { indexAad, indexKey, keyCommitment, newContentKey, partAad } from './secrets.ts';

/** In the place of a digest that is not known yet: as long as one. */
const UNKNOWN = Buffer.alloc(32);

/** Keys, ids and the places of everything, before anything is written. `old` where the plan takes parts from it. */
export async function drawUp(options: SealOptions, files: ModelFile[], plan: Plan, old?: OldSealed) {
  const ck = newContentKey();
  const sealId = randomBytes(16);
  const parts: DraftPart[] = [];
  for (const [i, length] of plan.parts.entries()) {
    const from = plan.old[i];
    parts.push(old && typeof from === 'number' ? await oldPart(old, from) : newPart(length));
  }
  const context = {
    suite: 1 as const,
    sealId,
    epoch: 1,
    policyBytes: encodePolicy(options.policy),
    owner: ownerPublicRaw(options.ownerKey),
    threshold: { t: options.threshold, n: options.brokers.length },
  };
  const recipients = await wrapContentKey(context, options, ck);

  const index = (digests: Buffer[]): Generator<Uint8Array> => {
    const indexFiles: IndexFile[] = files.map(({ path, size, mode }, i) => ({
      path,
      size,
      mode,
      sha256: digests[i] ?? UNKNOWN,
      extents: plan.extents[i] ?? [],
    }));
    const indexParts: IndexPart[] = parts.map(({ id, key, length }) => ({ id, key, length }));
    return indexBytes({ files: indexFiles, parts: indexParts });
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
  let plainLength = 0;
  for (const bytes of index([])) plainLength += bytes.length;
  const indexLength = floeLength(plainLength);
  if (indexLength > MAX_INDEX)
    throw usageError('ERR_SEAL_TOO_LARGE', 'the model has more files than a sealed model can list');
  const payloadOffset = pad(encodeHeader(header(indexLength, sha256()), options.ownerKey).length);
  let size = payloadOffset + pad(indexLength);
  const placed = parts.map((part) => {
    const offset = size;
    size += pad(floeLength(part.length));
    return { ...part, offset };
  });

  /** Writes what depends on the digests: FLOE headers, index, header. Padding is what `file` has from being made `size` long. */
  const complete = async (
    file: AtomicFile,
    digests: Buffer[],
  ): Promise<Omit<SealResult, 'digest' | 'files' | 'reused'>> => {
    for (const { header, offset } of placed) writeAll(file.handle.fd, [header], offset);
    // Not Buffer.concat of a hundred thousand pieces.
    const plain = Buffer.alloc(plainLength);
    let at = 0;
    for (const bytes of index(digests)) {
      plain.set(bytes, at);
      at += bytes.length;
    }
    const sealedIndex = encryptIndex(plain, ck, sealId);
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
  return { parts: placed, pieces: plan.pieces, size, complete };
}

type DraftPart = Omit<JobPart, 'offset' | 'header'> & { id: Uint8Array; header: Uint8Array };

/** A part to be encrypted: its own id and key, and the FLOE header that every thread goes by. */
function newPart(length: number): DraftPart {
  const [id, key] = [randomBytes(16), randomBytes(32)];
  const aad = partAad(id, length);
  return { id, key, aad, header: startEncryption(key, aad).header, length };
}

/** A part of the older sealed model with its id, key and ciphertext: nothing is encrypted anew, so nothing under a key that was used. */
async function oldPart({ source, index, offsets }: OldSealed, number: number): Promise<DraftPart> {
  const part = index.parts[number];
  const from = offsets[number];
  if (!part || from === undefined) throw new RangeError('no such part');
  const { id, key, length } = part;
  return { id, key, aad: partAad(id, length), header: await source.read(from, FLOE_HEADER_LENGTH), length, from };
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

import type { KeyObject } from 'node:crypto';
import { equalBytes, hex, sha256 } from '../core/bytes.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { type AtomicFile, withAtomicFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { isSameFile } from '../core/same-file.ts';
import { keyId, ownerPublicRaw } from '../keys/keys.ts';
import { writeAll } from './disk.ts';
import { encodeHeader, KIND, type ParsedHeader, pad, verifyHeaderSignature } from './header.ts';
import { openIndex, readHeader } from './open.ts';
import { requireSpace } from './output.ts';
import { encodePolicy, type Policy } from './policy.ts';
import {
  checkRecipients,
  type PrivateKey,
  type RecipientKeys,
  unwrapContentKey,
  wrapContentKey,
} from './recipients.ts';
import { type FileSource, fileSource } from './source.ts';

export interface RebindOptions extends RecipientKeys {
  sealed: string;
  /** Ed25519 private key: the header's owner. */
  ownerKey: KeyObject;
  /** Opens the old header alone: its recovery key, or its only broker's. */
  key: PrivateKey;
  policy: Policy;
  /** Another file than `sealed`. */
  out: string;
  /** Unix seconds. */
  created: number;
  onProgress?: OnProgress | undefined;
}

/** Ids and digests are hex. `old` is the header that this one replaces. */
export interface RebindResult {
  path: string;
  sealId: string;
  headerDigest: string;
  epoch: number;
  size: number;
  recovery?: string;
  old: { epoch: number; policy: Policy; headerDigest: string };
}

/** Copied at a time. */
const CHUNK = 4 << 20;

/**
 * Gives a sealed model a new header: the next epoch, another policy, fresh shares. The seal id, the content key, index and parts stay, byte
 * for byte; positions in them are relative, so a header of another size only moves them. Appears whole or not at all.
 *
 * Throws as readHeader, unwrapContentKey, openIndex and checkRecipients; `ERR_SEAL_OWNER`, `ERR_SEAL_SIGNATURE`, `ERR_POLICY_MISMATCH`
 * (exit 3) where owner, model or project are others than before; `ERR_REBIND_OUT` (exit 2) where `out` is the sealed model itself.
 */
export async function rebindModel(options: RebindOptions): Promise<RebindResult> {
  await refuseSameFile(options);
  const source = await fileSource(options.sealed);
  try {
    const parsed = await readHeader(source);
    const owner = ownerPublicRaw(options.ownerKey);
    verifyHeaderSignature(parsed, owner);
    requireSameModel(parsed, options.policy);
    const keys = recipientsOf(parsed, options);
    const ck = await unwrapContentKey(parsed.header, options.key);
    try {
      // A header for an index that does not open would be good for nothing.
      await openIndex(source, parsed, ck);
      const bytes = await newHeader(parsed, options, keys, ck);
      const size = await withAtomicFile(options.out, (file) => write(file, bytes, source, parsed, options), 0o644);
      return result(bytes, size, parsed, keys, options);
    } finally {
      ck.fill(0);
    }
  } finally {
    await source.close();
  }
}

async function newHeader(
  { header }: ParsedHeader,
  options: RebindOptions,
  keys: RecipientKeys,
  ck: Uint8Array,
): Promise<Buffer> {
  const { policy: _, ...old } = header;
  if (old.epoch >= Number.MAX_SAFE_INTEGER) throw usageError('ERR_SEAL_TOO_LARGE', 'there is no epoch after this one');
  const context = {
    ...old,
    epoch: old.epoch + 1,
    created: options.created,
    policyBytes: encodePolicy(options.policy),
    threshold: { t: keys.threshold, n: keys.brokers.length },
  };
  return encodeHeader({ ...context, recipients: await wrapContentKey(context, keys, ck) }, options.ownerKey);
}

async function write(
  file: AtomicFile,
  bytes: Buffer,
  source: FileSource,
  { payloadOffset }: ParsedHeader,
  { onProgress }: RebindOptions,
): Promise<number> {
  const moved = pad(bytes.length) - payloadOffset;
  const size = source.size + moved;
  await requireSpace(file.path, size);
  await file.handle.truncate(size);
  writeAll(file.handle.fd, [bytes], 0);
  for (let at = payloadOffset; at < source.size; at += CHUNK) {
    const chunk = await source.read(at, Math.min(CHUNK, source.size - at));
    writeAll(file.handle.fd, [chunk], at + moved);
    onProgress?.({
      phase: 'copying the sealed parts',
      done: at - payloadOffset + chunk.length,
      total: source.size - payloadOffset,
    });
  }
  return size;
}

const result = (bytes: Buffer, size: number, old: ParsedHeader, keys: RecipientKeys, { out }: RebindOptions) => ({
  path: out,
  sealId: hex(old.header.sealId),
  headerDigest: hex(sha256(bytes)),
  epoch: old.header.epoch + 1,
  size,
  ...(keys.recovery ? { recovery: hex(keyId(keys.recovery)) } : {}),
  old: { epoch: old.header.epoch, policy: old.header.policy, headerDigest: hex(old.digest) },
});

/** What is inside stays, so the policy must go on naming it. */
function requireSameModel({ header }: ParsedHeader, { model, project }: Policy): void {
  const { policy } = header;
  if (policy.model === model && policy.project === project) return;
  throw negativeError(
    'ERR_POLICY_MISMATCH',
    `the sealed model is ${policy.project} (model ${policy.model}), but the new policy is for ${project} (model ${model})`,
    { hint: 'a new header cannot change what is inside: seal the other model instead' },
  );
}

async function refuseSameFile({ sealed, out }: RebindOptions): Promise<void> {
  // OUT.partial is where the new file comes to be.
  if (!(await isSameFile(sealed, out)) && !(await isSameFile(sealed, `${out}.partial`))) return;
  throw usageError('ERR_REBIND_OUT', `expected another file for the new header than ${sealed}, found ${out}`, {
    hint: 'the old file stays in force until every broker was advanced: keep both until then',
  });
}

/** Default: the recovery key stays who it is, where that is the key that was given. */
function recipientsOf({ header }: ParsedHeader, options: RebindOptions): RecipientKeys {
  const { brokers, threshold, recovery, key } = options;
  const id = keyId(key.publicRaw);
  const same = header.recipients.some((r) => r.kind === KIND.recovery && equalBytes(r.keyId, id));
  const keys = { brokers, threshold, recovery: recovery ?? (same ? key.publicRaw : undefined) };
  checkRecipients(keys);
  return keys;
}

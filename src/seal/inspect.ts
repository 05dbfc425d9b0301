import { hex } from '../core/bytes.ts';
import { type Check, compare, fail, pass, skipped } from '../core/check.ts';
import { AtomaError, EXIT } from '../core/errors.ts';
import type { OnProgress } from '../core/progress.ts';
import { FORMAT_BYTES, modelFormat } from '../model/format.ts';
import { modelDigest } from '../model/model.ts';
import { KIND, type ParsedHeader, type Recipient, verifyHeaderSignature } from './header.ts';
import type { IndexFile } from './index-part.ts';
import { openIndex, readHeader, readIndexBytes } from './open.ts';
import { type OpenSealed, readRange } from './range.ts';
import { type PrivateKey, unwrapContentKey } from './recipients.ts';
import { fileSource } from './source.ts';
import { openParts } from './unseal.ts';

/**
 * What a sealed model says of itself, JSON-able, hex: nothing is verified but the structure. With a key also the files. Throws as
 * readHeader and, with a key, as unwrapContentKey and openIndex.
 */
export async function inspectSealed(path: string, key?: PrivateKey): Promise<object> {
  const source = await fileSource(path);
  try {
    const parsed = await readHeader(source);
    const { header } = parsed;
    const index = key && (await openIndex(source, parsed, await unwrapContentKey(header, key)));
    return {
      kind: 'sealed',
      suite: header.suite,
      sealId: hex(header.sealId),
      epoch: header.epoch,
      created: new Date(header.created * 1000).toISOString(),
      owner: hex(header.owner),
      headerDigest: hex(parsed.digest),
      size: source.size,
      policy: header.policy,
      threshold: header.threshold,
      recipients: header.recipients.map((r) => ({
        kind: kindName(r),
        keyId: hex(r.keyId),
        ...(r.share > 0 ? { share: r.share } : {}),
      })),
      index: { length: header.index.length, sha256: hex(header.index.sha256) },
      parts: header.parts.map((part) => ({ id: hex(part.id), length: part.length })),
      ...(index
        ? {
            files: await describeFiles({ source, parsed, index }),
          }
        : {}),
      verified: false,
    };
  } finally {
    await source.close();
  }
}

/** Of so many of the largest files the format is looked up: each costs a segment. */
const MAX_FORMATS = 16;

async function describeFiles(sealed: OpenSealed): Promise<object[]> {
  const { files } = sealed.index;
  const largest = new Set([...files].sort((a, b) => b.size - a.size).slice(0, MAX_FORMATS));
  const described: object[] = [];
  for (const file of files) {
    const { path, size, mode, sha256 } = file;
    const format = largest.has(file) ? await formatOf(sealed, file) : undefined;
    described.push({ path, size, mode: mode.toString(8), sha256: hex(sha256), ...(format ? { format } : {}) });
  }
  return described;
}

async function formatOf(sealed: OpenSealed, { path, size }: IndexFile): Promise<string | undefined> {
  const head: Buffer[] = [];
  for await (const piece of readRange(sealed, path, 0, Math.min(size, FORMAT_BYTES))) head.push(piece);
  return modelFormat(path, Buffer.concat(head));
}

const kindName = ({ kind }: Recipient): string =>
  kind === KIND.broker ? 'broker' : kind === KIND.recovery ? 'recovery' : `unknown (${kind})`;

export interface VerifySealedOptions {
  /** Raw Ed25519 public key that must be the owner's. */
  owner?: Uint8Array | undefined;
  /** To decrypt and check everything. */
  key?: PrivateKey | undefined;
  onProgress?: OnProgress | undefined;
}

/**
 * Checks a sealed model: `seal.owner` (the owner is the one given), `seal.owner-signature`, `seal.index` (its digest), and with a key
 * `seal.content-key` and `seal.contents` (every segment, every file digest, all padding) and
 * `seal.model` (they are the model that the policy names). A negative verdict is a failed check; only
 * a file that cannot be read as a sealed model throws (exit 2).
 */
export async function verifySealed(
  path: string,
  options: VerifySealedOptions,
): Promise<{ parsed: ParsedHeader; checks: Check[] }> {
  const { owner, key, onProgress } = options;
  const source = await fileSource(path);
  try {
    const parsed = await readHeader(source);
    const { header } = parsed;
    const checks: Check[] = [];
    if (!owner) checks.push(skipped('seal.owner', 'no owner was given to compare with'));
    else checks.push(ownerCheck(hex(owner), hex(header.owner)));
    await attempt(checks, 'seal.owner-signature', async () => verifyHeaderSignature(parsed));
    await attempt(checks, 'seal.index', async () => void (await readIndexBytes(source, parsed)));
    if (!key) {
      checks.push(skipped('seal.contents', 'no key was given to decrypt with'));
      return { parsed, checks };
    }
    let ck: Buffer | undefined;
    await attempt(checks, 'seal.content-key', async () => {
      ck = await unwrapContentKey(header, key);
    });
    const contentKey = ck;
    if (!contentKey) checks.push(skipped('seal.contents', 'the content key could not be had'));
    else {
      await attempt(checks, 'seal.contents', async () => {
        const index = await openIndex(source, parsed, contentKey);
        await openParts(source, parsed, index, null, {
          phase: 'checking the sealed model',
          doing: `cannot read ${path}`,
          onProgress,
        });
        const digest = modelDigest(index.files.map((file) => ({ name: file.path, sha256: hex(file.sha256) })));
        checks.push(compare('seal.model', header.policy.model, digest, 'what is inside, and what the policy says'));
      });
    }
    return { parsed, checks };
  } finally {
    await source.close();
  }
}

const ownerCheck = (expected: string, actual: string): Check =>
  expected === actual ? pass('seal.owner') : fail('seal.owner', { expected, actual });

/** A refusal of ours is a failed check; anything unexpected (I/O) is thrown on. */
async function attempt(checks: Check[], id: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
    checks.push(pass(id));
  } catch (error) {
    if (!(error instanceof AtomaError) || error.exitCode === EXIT.unexpected) throw error;
    checks.push(fail(id, { detail: `${error.message} (${error.code})` }));
  }
}

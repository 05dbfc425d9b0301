import { ioError } from '../core/files.ts';
import type { ModelFile } from '../model/model.ts';
import { verifyHeaderSignature } from './header.ts';
import type { SealIndex } from './index-part.ts';
import { openIndex, partOffsets, readHeader } from './open.ts';
import type { Limits, Plan } from './plan.ts';
import { type PrivateKey, unwrapContentKey } from './recipients.ts';
import { type Candidate, type NewFile, planReuse } from './reuse-plan.ts';
import { partAad } from './secrets.ts';
import { type FileSource, fileSource } from './source.ts';
import { type RunOptions, runJob } from './threads.ts';

/** An older sealed model, open. */
export interface OldSealed {
  source: FileSource;
  index: SealIndex;
  /** Where each part begins. */
  offsets: number[];
}

/**
 * Opens the older sealed model, which must be signed by `owner` (raw Ed25519): keys that somebody else chose would not be secret. Throws
 * as readHeader, verifyHeaderSignature, unwrapContentKey and openIndex. The caller closes `source`.
 */
export async function openOld(
  { sealed, key }: { sealed: string; key: PrivateKey },
  owner: Uint8Array,
): Promise<OldSealed> {
  const source = await fileSource(sealed);
  try {
    const parsed = await readHeader(source);
    verifyHeaderSignature(parsed, owner);
    const index = await openIndex(source, parsed, await unwrapContentKey(parsed.header, key));
    return { source, index, offsets: partOffsets(parsed) };
  } catch (error) {
    await source.close();
    throw ioError(error, `cannot read the sealed model ${sealed}`);
  }
}

/** Where everything goes, and which parts come from the older sealed model; reads what has to be compared. */
export async function planWithOld(
  old: OldSealed,
  files: (ModelFile & NewFile)[],
  limits: Limits,
  run: RunOptions,
): Promise<Plan> {
  const { candidates, finish } = planReuse(old.index, files, limits);
  return finish(candidates.length === 0 ? new Set() : await compare(old, candidates, files, run));
}

/** Which of the parts (by number in the older sealed model) are not what the new files hold in their place. */
async function compare(
  { source, index, offsets }: OldSealed,
  candidates: Candidate[],
  files: ModelFile[],
  run: RunOptions,
): Promise<Set<number>> {
  const changed = new SharedArrayBuffer(4 * candidates.length);
  await runJob(
    {
      direction: 'compare',
      fd: source.fd,
      files: files.map(({ absolute, size, identity }) => ({ path: absolute, size, identity })),
      fileSizes: files.map(({ size }) => size),
      hash: new Uint8Array(files.length),
      parts: candidates.flatMap(({ part }) => {
        const found = index.parts[part];
        if (!found) return [];
        return {
          aad: partAad(found.id, found.length),
          key: found.key,
          length: found.length,
          offset: offsets[part] ?? 0,
        };
      }),
      pieces: candidates.map(({ file, fileOffset, length }, i) => ({ part: i, offset: 0, length, file, fileOffset })),
      changed,
    },
    run,
  );
  const marks = new Int32Array(changed);
  return new Set(candidates.filter((_, i) => marks[i] !== 0).map(({ part }) => part));
}

import { hex, sha256 } from '../core/bytes.ts';
import { negativeError } from '../core/errors.ts';
import { readSmallFile, writeFileAtomic } from '../core/files.ts';
import { BUNDLE_FILE, bundlePath } from '../manifest/bundle.ts';
import { MANIFEST_FILE, parseStatement } from '../manifest/statement.ts';
import type { SealHeader } from '../seal/header.ts';
import { type Descriptor, TYPES } from './shape.ts';

/** Build manifests list every file of an image; more than this is not one. */
export const MAX_STATEMENT = 32 << 20;

export interface BuildFile extends Descriptor {
  /** As `oras` and the like call the file. */
  title: string;
  bytes: Buffer;
}

const file = (mediaType: string, title: string, bytes: Buffer): BuildFile => ({
  mediaType,
  title,
  bytes,
  digest: `sha256:${hex(sha256(bytes))}`,
  size: bytes.length,
});

/** A build manifest and, where it lies beside it, the bundle that signs it. Throws what reading throws. */
export async function readBuildFiles(path: string, header: SealHeader): Promise<BuildFile[]> {
  const statement = await readSmallFile(path, 'build manifest', MAX_STATEMENT);
  requireRelated(statement, header, path);
  const bundle = await readSmallFile(bundlePath(path), 'signature of the build manifest', MAX_STATEMENT).catch(
    (error) => {
      if (error.code === 'ERR_FILE_NOT_FOUND') return null;
      throw error;
    },
  );
  return [
    file(TYPES.statement, MANIFEST_FILE, statement),
    ...(bundle === null ? [] : [file(TYPES.bundle, BUNDLE_FILE, bundle)]),
  ];
}

/** Returns the paths written, the build manifest's last: whoever waits for it finds its signature there. */
export async function writeBuildFiles(path: string, statement: Buffer, bundle: Buffer | null): Promise<string[]> {
  if (bundle !== null) await writeFileAtomic(bundlePath(path), bundle);
  await writeFileAtomic(path, statement);
  return bundle === null ? [path] : [path, bundlePath(path)];
}

/**
 * A build manifest goes with a sealed model of the same project, model and owner. That says nothing of its truth: `verify` does.
 * Throws `ERR_ARTIFACT_UNRELATED` (exit 3), `ERR_MANIFEST_MALFORMED` (exit 2).
 */
export function requireRelated(statement: Buffer, { policy, owner }: SealHeader, what: string): void {
  const { project, model, owner: measured } = parseStatement(statement).predicate.buildDefinition.externalParameters;
  const pairs = [
    ['project', policy.project, project.name],
    ['model', policy.model, model.digest.sha256],
    ['owner', hex(owner), measured],
  ];
  for (const [name, expected, found] of pairs) {
    if (expected === found) continue;
    throw negativeError(
      'ERR_ARTIFACT_UNRELATED',
      `${what} is the build manifest of another ${name} than the sealed model's: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`,
    );
  }
}

import * as z from 'zod';
import { usageError } from '../core/errors.ts';
import { compareBytewise } from '../oci/flatten-types.ts';
import type { Digest } from './cache.ts';

/**
 * An archive of a build's inputs (docs/reproduce.md), a directory:
 *
 *   inputs.json             what is in it, this schema
 *   atoma-tee.lock          the project's lock, its bytes
 *   blobs/ALGORITHM/HEX     every input by the digest that the lock pins it by, or that inputs.json gives
 *
 * Every byte of it follows from the lock and the project. Nothing in it is believed: blobs are compared with their names
 * while they are read, and the lock, whose digest a build manifest holds, says which of them a build takes.
 */
export const ARCHIVE_FILES = { index: 'inputs.json', lock: 'atoma-tee.lock', blobs: 'blobs' } as const;
/** What `blobs` can hold: so that nobody's own directory is taken for an old archive's. */
export const ALGORITHMS = ['sha256', 'sha512'] as const;

const hex = (digits: number) => z.string().regex(new RegExp(`^[0-9a-f]{${digits}}$`));
const digest = z.union([z.templateLiteral(['sha256:', hex(64)]), z.templateLiteral(['sha512:', hex(128)])]);

/** Where a blob goes in a cache (image/cache.ts). */
const ROLES = ['archive', 'file', 'layer'] as const;
export type BlobRole = (typeof ROLES)[number];

const blob = z.strictObject({
  /** For people: "libc6@2.36-9". */
  name: z.string().min(1).max(1024),
  digest,
  size: z.int().min(0),
  role: z.enum(ROLES),
});

/** Bytes in a name, on any file system of Linux. */
const NAME_MAX = 255;

/** '/'-separated, relative, in its one form. */
const path = z
  .string()
  .max(4096)
  .regex(/^(?!\.{1,2}(\/|$))[^/\0]+(\/(?!\.{1,2}(\/|$))[^/\0]+)*$/, 'expected a relative path without "." or ".."');
const projectEntry = z.union([
  z.strictObject({ path, type: z.literal('file'), executable: z.boolean(), size: z.int().min(0), sha256: hex(64) }),
  z.strictObject({ path, type: z.literal('dir') }),
  z.strictObject({ path, type: z.literal('symlink'), target: z.string().min(1).max(4096) }),
]);

const schema = z.strictObject({
  version: z.literal(1),
  /** SHA-256 of atoma-tee.lock. */
  lock: hex(64),
  /** Sorted by digest, each once. */
  blobs: z.array(blob).max(100_000),
  /** The project's own files that a build reads, sorted by path; contents are blobs. The model is not among them. */
  project: z.array(projectEntry).max(1_000_000),
});

export type ArchiveIndex = z.infer<typeof schema>;
export type ArchiveBlob = z.infer<typeof blob>;
export type ProjectEntry = z.infer<typeof projectEntry>;

export const digestText = ({ algorithm, hex }: Digest): ArchiveBlob['digest'] => `${algorithm}:${hex}`;

export function parseDigestText(text: ArchiveBlob['digest']): Digest {
  const [algorithm, digits] = text.split(':') as [Digest['algorithm'], string];
  return { algorithm, hex: digits };
}

/** The same value gives the same bytes. */
export function encodeArchiveIndex({ version, lock, blobs, project }: ArchiveIndex): Buffer {
  const index: ArchiveIndex = {
    version,
    lock,
    blobs: blobs
      .toSorted((a, b) => compareBytewise(a.digest, b.digest))
      .map(({ name, digest, size, role }) => ({ name, digest, size, role })),
    project: project.toSorted((a, b) => compareBytewise(a.path, b.path)),
  };
  return Buffer.from(`${JSON.stringify(schema.parse(index), null, 2)}\n`);
}

/** Throws `ERR_INPUTS_MALFORMED` (exit 2). */
export function parseArchiveIndex(bytes: Uint8Array): ArchiveIndex {
  let index: ArchiveIndex;
  try {
    index = schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (cause) {
    throw malformed('it is not of this version', cause);
  }
  const links = new Set(index.project.flatMap(({ type, path }) => (type === 'dir' ? [] : [path])));
  const seen = new Set<string>();
  for (const { path } of index.project) {
    if (seen.has(path)) throw malformed(`it names ${JSON.stringify(path)} twice`);
    seen.add(path);
    if (path === ARCHIVE_FILES.lock) throw malformed('it names the lock among the files of the project');
    if (path.split('/').some((name) => Buffer.byteLength(name) > NAME_MAX))
      throw malformed('it names a file that no file system can hold');
    // Whoever writes below a link writes somewhere else.
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      if (links.has(path.slice(0, at))) throw malformed(`${JSON.stringify(path)} lies below a file or a link`);
    }
  }
  return index;
}

const malformed = (why: string, cause?: unknown) =>
  usageError('ERR_INPUTS_MALFORMED', `expected ${ARCHIVE_FILES.index} of an archive of inputs: ${why}`, {
    cause,
    hint: '`atoma-tee build --save-inputs DIR` writes one',
  });

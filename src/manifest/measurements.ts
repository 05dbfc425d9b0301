import * as z from 'zod';
import { usageError } from '../core/errors.ts';

export const MEASUREMENTS_FILE = 'measurements.json';
export const MEASUREMENTS_MEDIA_TYPE = 'application/vnd.atoma-tee.measurements.v1+json';

const hexOf = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
const nitro = z.strictObject({
  tee: z.literal('nitro'),
  pcr0: hexOf(48),
  pcr1: hexOf(48),
  pcr2: hexOf(48),
  pcr8: hexOf(48).optional(),
});

const file = z.strictObject({
  path: z.string().min(1),
  /** "link": a hard link to the file at `target`. */
  type: z.enum(['file', 'dir', 'symlink', 'link']),
  /** Permission bits in octal, "0755". */
  mode: z.string().regex(/^[0-7]{4}$/),
  /** Of a file. */
  size: z.int().min(0).optional(),
  sha256: hexOf(32).optional(),
  /** Of a link, of either kind. */
  target: z.string().optional(),
  /** Left out where it is 0. */
  uid: z.int().min(0).optional(),
  gid: z.int().min(0).optional(),
});

const part = z.strictObject({
  /** "kernel", "cmdline", "ramdisk0", "ramdisk1". */
  name: z.string().min(1),
  size: z.int().min(0),
  sha384: hexOf(48),
  /** Of a ramdisk: what it holds, sorted by path. */
  files: z.array(file).optional(),
});

const nitroImage = z.strictObject({
  target: z.literal('nitro'),
  /** Beside this document. */
  file: z.string().min(1),
  size: z.int().min(0),
  sha256: hexOf(32),
  measurement: nitro,
  parts: z.array(part),
});

const sgx = z.strictObject({
  tee: z.literal('sgx'),
  mrenclave: hexOf(32),
  mrsigner: hexOf(32),
  isvprodid: z.int().min(0).max(0xffff),
  isvsvn: z.int().min(0).max(0xffff),
});

/** What MRENCLAVE covers, area by area, as `inspect --layout` prints them. */
const area = z.strictObject({
  /** "manifest", "ssa", "tcs", "tls", "stack0".., "sig_stack0".., "pal", "free". */
  name: z.string().min(1),
  /** Hex, "0x10000". */
  address: z.string().regex(/^0x[0-9a-f]+$/),
  size: z.int().min(0),
  flags: z.string(),
  sha256: hexOf(32),
});
const pinned = z.strictObject({ size: z.int().min(0), sha256: hexOf(32) });

const gramineImage = z.strictObject({
  target: z.literal('gramine'),
  /** The signed manifest, beside this document. */
  file: z.string().min(1),
  size: z.int().min(0),
  sha256: hexOf(32),
  measurement: sgx,
  sigstruct: pinned.extend({ file: z.string().min(1) }),
  libpal: pinned,
  libsysdb: pinned,
  parts: z.array(area),
  /** What is in the image's root. The manifest trusts every file of it, and nothing else. */
  files: z.array(file),
});

const schema = z.strictObject({
  version: z.literal(1),
  images: z.array(z.discriminatedUnion('target', [nitroImage, gramineImage])),
});

/** measurements.json: what each image measures and what is inside it, so that a mismatch can name a file. */
export type Measurements = z.infer<typeof schema>;
export type NitroImage = z.infer<typeof nitroImage>;
export type GramineImage = z.infer<typeof gramineImage>;
export type MeasuredFile = z.infer<typeof file>;

/** The same value gives the same bytes. */
export const encodeMeasurements = (measurements: Measurements): Buffer =>
  Buffer.from(`${JSON.stringify(schema.parse(measurements), null, 2)}\n`);

/** Throws `ERR_MEASUREMENTS_MALFORMED` (exit 2). */
export function parseMeasurements(bytes: Uint8Array): Measurements {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (cause) {
    throw usageError('ERR_MEASUREMENTS_MALFORMED', `expected the ${MEASUREMENTS_FILE} of a build`, { cause });
  }
}

/** Lists a tree as measurements.json does. */
export const measuredFiles = (
  entries: {
    path: string;
    type: MeasuredFile['type'];
    mode: number;
    size: number;
    sha256?: string;
    target?: string;
    uid?: number;
    gid?: number;
  }[],
): MeasuredFile[] =>
  [...entries]
    .sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)))
    .map(({ path, type, mode, size, sha256, target, uid = 0, gid = 0 }) => ({
      path,
      type,
      mode: mode.toString(8).padStart(4, '0'),
      ...(type === 'file' ? { size, ...(sha256 === undefined ? {} : { sha256 }) } : {}),
      ...(target === undefined ? {} : { target }),
      ...(uid === 0 ? {} : { uid }),
      ...(gid === 0 ? {} : { gid }),
    }));

import { lstat, open, readdir, realpath, rename } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { usageError } from '../core/errors.ts';
import { ioError, writeFileAtomic } from '../core/files.ts';
import type { NitroMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { stagingFor } from '../core/staging.ts';
import { DEFAULT_CPUS, DEFAULT_MEM, EIF_VERSION, type EifArch, type EifSectionType } from './layout.ts';
import { checkSignature, type SignatureCheck } from './signature.ts';
import { type MeasuredEif, type RamdiskSink, requireCrc, streamEif } from './stream.ts';

export interface UnpackOptions {
  /** Path. */
  image: string;
  /** A directory that does not exist, or is empty. */
  out: string;
  onProgress?: OnProgress | undefined;
}

/** Shape of `nitro unpack --json`. */
export interface UnpackedEif {
  path: string;
  version: number;
  arch: EifArch;
  measurement: NitroMeasurement;
  /** Names of files in `path`, in the order of the image, the two parts of the signature last. */
  files: { name: string; type: EifSectionType; size: number; sha384?: string }[];
  signature: SignatureCheck | null;
  /** Arguments of `atoma-tee` that put the image together again, without its signature. */
  pack: string[];
  /** Whether they give the same bytes: not for an older format, another order, or hints in the header of another builder. */
  exact: boolean;
}

const FILES = { kernel: 'kernel', cmdline: 'cmdline', metadata: 'metadata.json' } as const;
const CERTIFICATE = 'certificate.pem';
const SIGNATURE = 'signature.cose';
/** What a killed run leaves in a directory that was there: stagingDirectory clears it up. */
const STAGING = /^\.outputs\.\d+-[0-9a-f]{12}\.partial$/;

/**
 * `nitro unpack`: each part of an image as a file. The directory appears whole, after the image's structure and CRC were
 * checked; its signature is judged and told. Memory is bounded. Throws as `streamEif`, `ERR_EIF_CRC` (exit 3),
 * `ERR_OUTPUT_EXISTS`, `ERR_OUTPUT_KIND` (exit 2), `ERR_DISK_FULL`.
 */
export async function unpackEif({ image, out, onProgress }: UnpackOptions): Promise<UnpackedEif> {
  const target = await freeDirectory(out);
  const staging = await stagingFor(target);
  try {
    let ramdisks = 0;
    const files: UnpackedEif['files'] = [];
    const measured = await streamEif(image, {
      fileDigests: [],
      onProgress,
      async onSection({ type, size }) {
        if (type === 'signature') return undefined;
        const name = type === 'ramdisk' ? `ramdisk${ramdisks++}` : FILES[type];
        files.push({ name, type, size });
        return fileSink(join(staging.path, name));
      },
    });
    requireCrc(measured);
    const digests = measured.sections.filter(({ type }) => type !== 'signature');
    for (const [i, file] of files.entries()) file.sha384 = digests[i]?.sha384 ?? '';
    files.push(...(await writeSignature(staging.path, measured)));
    await appear(
      staging.path,
      target,
      files.map(({ name }) => name),
      out,
    );
    return describe(out, measured, files);
  } catch (error) {
    throw ioError(error, `cannot write ${out}`);
  } finally {
    await staging.remove();
  }
}

function describe(path: string, measured: MeasuredEif, files: UnpackedEif['files']): UnpackedEif {
  const { layout, measurement, signature } = measured;
  const order = files.map(({ type }) => type).filter((type) => type !== 'signature');
  const packed = ['kernel', 'cmdline', ...(measured.metadata ? ['metadata'] : [])];
  const { version, arch, defaultMem, defaultCpus } = layout;
  return {
    path,
    version,
    arch,
    measurement,
    files,
    signature: signature && checkSignature(signature, measurement.pcr0),
    pack: packArguments(path, arch, files),
    exact:
      version === EIF_VERSION &&
      defaultMem === DEFAULT_MEM &&
      defaultCpus === DEFAULT_CPUS &&
      packed.every((type, i) => order[i] === type),
  };
}

function packArguments(path: string, arch: EifArch, files: UnpackedEif['files']): string[] {
  const flags: Partial<Record<EifSectionType, string>> = {
    kernel: '--kernel',
    cmdline: '--cmdline-file',
    ramdisk: '--ramdisk',
    metadata: '--metadata',
  };
  const parts = files.flatMap(({ name, type }) => {
    const flag = flags[type];
    return flag === undefined ? [] : [flag, join(path, name)];
  });
  return ['nitro', 'pack', '--arch', arch, ...parts];
}

async function writeSignature(directory: string, { signature }: MeasuredEif): Promise<UnpackedEif['files']> {
  if (!signature) return [];
  await writeFileAtomic(join(directory, CERTIFICATE), signature.pem);
  await writeFileAtomic(join(directory, SIGNATURE), signature.sign1);
  return [
    { name: CERTIFICATE, type: 'signature', size: signature.pem.length },
    { name: SIGNATURE, type: 'signature', size: signature.sign1.length },
  ];
}

/** Writes as it is told to; the handle is closed at the end, and by the garbage collector after a failure. */
async function fileSink(path: string): Promise<RamdiskSink> {
  const handle = await open(path, 'wx', 0o644);
  return {
    async write(chunk) {
      for (let done = 0; done < chunk.length; ) {
        done += (await handle.write(chunk, done, chunk.length - done)).bytesWritten;
      }
    },
    end: () => handle.close(),
  };
}

/**
 * The directory at once where there is none; into one that is there, whoever stands in it or has mounted it, its files one
 * by one, the first only if nobody else has put something there meanwhile.
 */
async function appear(from: string, target: string, names: string[], out: string): Promise<void> {
  if (dirname(from) !== target) {
    await rename(from, target).catch((error) => {
      throw ['ENOTEMPTY', 'EEXIST'].includes(error.code) ? exists(out) : error;
    });
    return;
  }
  if ((await readdir(target)).some((name) => name !== basename(from))) throw exists(out);
  for (const name of names) await rename(join(from, name), join(target, name));
}

/** The path to make; an empty directory may be in its place. */
async function freeDirectory(out: string): Promise<string> {
  const target = await realpath(out).catch(() => resolve(out));
  const stat = await lstat(target).catch(() => null);
  // Anything but a directory is refused where the staging directory is made.
  if (stat?.isDirectory() && (await readdir(target)).some((name) => !STAGING.test(name))) throw exists(out);
  return target;
}

const exists = (path: string) =>
  usageError('ERR_OUTPUT_EXISTS', `${path} exists and is not empty; expected a directory that does not exist yet`, {
    hint: 'give another --out',
  });

import { rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { usageError } from '../core/errors.ts';
import { AtomicFile, ioError, readSmallFile } from '../core/files.ts';
import type { SgxMeasurement } from '../core/measurement.ts';
import type { OnProgress } from '../core/progress.ts';
import { requireOtherThan } from '../core/same-file.ts';
import { readSgxSigner, type SgxSignerSource, signingDate, signManifest } from '../gramine/index.ts';
import { finishManifest, parseManifest } from '../gramine/manifest.ts';
import { MAX_MANIFEST } from '../gramine/toml.ts';

/** Gramine's own has half a MiB. */
export const MAX_LIBPAL = 64 << 20;

export interface SignOptions {
  /** Paths. */
  manifest: string;
  libpal: string;
  signer: SgxSignerSource;
  /** YYYY-MM-DD. */
  date?: string | undefined;
  chroot?: string | undefined;
  out: string;
  /** Default: `out` with .sig for .manifest.sgx. */
  sig?: string | undefined;
  onProgress?: OnProgress | undefined;
}

export interface SignedEnclave {
  measurement: SgxMeasurement;
  /** Paths of what was written. */
  manifest: string;
  sigstruct: string;
  date: ReturnType<typeof signingDate>;
  debug: boolean;
}

/**
 * `gramine sign`: as gramine-sgx-sign. The manifest is completed again (trusted files that have a digest keep it), measured together
 * with libpal.so, and signed; relative URIs are relative to the working directory. Both outputs appear, or none, and neither
 * takes the place of a key or of anything else that is read (`ERR_OUTPUT_INPUT`). Throws what `finishManifest`, `readSgxSigner` and
 * `signManifest` throw, and `ERR_USAGE`.
 */
export async function signGramine(options: SignOptions): Promise<SignedEnclave> {
  const { out, sig = sigBeside(out), onProgress } = options;
  if (resolve(sig) === resolve(out)) throw usageError('ERR_USAGE', `expected two output files, found ${out} for both`);
  for (const output of [out, sig]) await requireOtherThan(output, inputs(options));
  const date = signingDate(options.date);
  const signer = await readSgxSigner(options.signer);
  const libpal = await readSmallFile(options.libpal, 'libpal', MAX_LIBPAL);
  const text = (await readSmallFile(options.manifest, 'manifest', MAX_MANIFEST)).toString('utf8');
  const { bytes, table } = await finishManifest(parseManifest(text, options.manifest), {
    directory: process.cwd(),
    chroot: options.chroot,
    onProgress,
  });
  const signed = await signManifest({ manifest: bytes, table, libpal, signer, date: date.date, onProgress });
  await writeBoth([out, bytes], [sig, signed.sigstruct]);
  const debug = (table.sgx as { debug?: unknown }).debug === true;
  return { measurement: signed.measurement, manifest: out, sigstruct: sig, date, debug };
}

const inputs = ({ manifest, libpal, signer }: SignOptions) => [
  ...[manifest, libpal],
  ...('key' in signer ? [signer.key, signer.passphrase] : [signer.publicKey]),
];

const MANIFEST_NAME = /\.manifest\.sgx$/;

/** Where Gramine looks for the signature of a signed manifest. */
export function sigBeside(manifest: string): string {
  if (MANIFEST_NAME.test(manifest)) return manifest.replace(MANIFEST_NAME, '.sig');
  throw usageError('ERR_USAGE', `expected a file NAME.manifest.sgx, found ${manifest}`, {
    hint: 'Gramine finds no other; or name both outputs, with --sig',
  });
}

async function writeBoth(...outputs: [path: string, bytes: Buffer][]): Promise<void> {
  const files: AtomicFile[] = [];
  const placed: string[] = [];
  try {
    for (const [path, bytes] of outputs) {
      const file = await AtomicFile.create(path, 0o644);
      files.push(file);
      await file.handle.writeFile(bytes);
    }
    for (const file of files) {
      await file.commit();
      placed.push(file.path);
    }
  } catch (error) {
    for (const file of files) if (!placed.includes(file.path)) await file.abort();
    // One of the two alone would be taken for what belongs to an older other.
    for (const path of placed) await rm(path, { force: true });
    throw ioError(error, `cannot write ${outputs.map(([path]) => path).join(' and ')}`);
  }
}

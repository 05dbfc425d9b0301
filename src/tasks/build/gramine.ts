import { createHash } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { hex, sha256 } from '../../core/bytes.ts';
import { usageError } from '../../core/errors.ts';
import { writeFileAtomic } from '../../core/files.ts';
import type { SgxMeasurement } from '../../core/measurement.ts';
import { gramineNames, imageManifest, LIBPAL, LIBSYSDB, ROOT, type TrustedFile } from '../../gramine/image-manifest.ts';
import { imageRoot, ordered, writeTree } from '../../gramine/image-tree.ts';
import { type EnclaveArea, readSgxSigner, type SgxSigner, signManifest } from '../../gramine/index.ts';
import { finishManifest } from '../../gramine/manifest.ts';
import { writeOciLayout } from '../../gramine/oci-image.ts';
import { type GramineLibraries, provideGramine } from '../../gramine/runtime-files.ts';
import type { TreeEntry } from '../../image/cpio.ts';
import type { GramineEntry } from '../../image/lock-file.ts';
import { directory, ownEntry } from '../../image/ramdisks.ts';
import { type MeasuredFile, measuredFiles } from '../../manifest/measurements.ts';
import type { Project } from '../../project/load.ts';
import { gramineDefaults } from '../../project/schema.ts';
import type { ImageContent, ImageInputs } from './content.ts';

export interface BuiltFile {
  name: string;
  size: number;
  sha256: string;
  sha384: string;
}

export interface BuiltGramine {
  manifest: BuiltFile;
  sigstruct: BuiltFile;
  measurement: SgxMeasurement;
  areas: EnclaveArea[];
  /** What the image's root holds. */
  files: MeasuredFile[];
  /** Names of directories. */
  directory: string;
  layout: string;
  /** Digest (hex) of the OCI image's manifest. */
  layoutDigest: string;
}

/** Where the OCI image has everything: apart from whatever image it is laid over. */
const WORKDIR = 'atoma-tee';

/** Throws `ERR_GRAMINE_UNSIGNED` (exit 2), and what readSgxSigner throws. */
export async function gramineSigner({ config, dir }: Project): Promise<SgxSigner> {
  const { key, passphrase, signer, public_key } = config.gramine?.sign ?? {};
  if (key !== undefined) {
    return readSgxSigner({
      key: resolve(dir, key),
      ...(passphrase === undefined ? {} : { passphrase: resolve(dir, passphrase) }),
    });
  }
  if (signer !== undefined && public_key !== undefined) {
    return readSgxSigner({ signer, publicKey: resolve(dir, public_key) });
  }
  throw usageError('ERR_GRAMINE_UNSIGNED', 'expected gramine.sign in enclave.toml: SGX starts no unsigned enclave', {
    hint: 'run `atoma-tee keygen --type sgx --out sgx.pem`, and write [gramine] sign = { key = "sgx.pem" }',
  });
}

/** The libraries that the lock pins. Throws `ERR_LOCK_GRAMINE` (exit 2), and what provideGramine throws. */
export async function gramineLibraries({ project, lock, cache }: ImageInputs): Promise<GramineLibraries> {
  return provideGramine(requirePin(lock.gramine), { dir: project.dir, cache });
}

function requirePin(pin: GramineEntry | undefined): GramineEntry {
  if (pin !== undefined) return pin;
  throw usageError('ERR_LOCK_GRAMINE', 'expected the lock to pin the libraries of Gramine, found none', {
    hint: 'add "gramine" to targets in enclave.toml, and run `atoma-tee lock`',
  });
}

/** Writes NAME.manifest.sgx, NAME.sig, NAME.gramine and NAME.oci into `dir`. */
export async function writeGramine(
  dir: string,
  inputs: ImageInputs,
  content: ImageContent,
  libraries: GramineLibraries,
  signer: SgxSigner,
): Promise<BuiltGramine> {
  const { project, lock, onProgress } = inputs;
  const config = project.config.gramine ?? gramineDefaults();
  const names = gramineNames(project.name);
  const root = imageRoot(content.root);
  const libsysdb = hex(sha256(libraries.libsysdb));
  const { bytes: manifest, table } = await finishManifest(
    imageManifest(project.name, config, { files: trusted(root), libsysdb }),
    { directory: dir },
  );
  onProgress?.({ phase: 'measuring the enclave', done: 0 });
  const { sigstruct, measurement, areas } = await signManifest({
    manifest,
    table,
    libpal: libraries.libpal,
    signer,
    date: new Date(lock.timestamp * 1000).toISOString().slice(0, 10),
  });

  // An earlier attempt may have left half of them.
  for (const name of [names.directory, names.layout]) await rm(join(dir, name), { recursive: true, force: true });
  onProgress?.({ phase: "writing the image's root", done: 0 });
  await mkdir(join(dir, names.layout), { mode: 0o700 });
  const below = [
    own(LIBPAL, libraries.libpal),
    own(LIBSYSDB, libraries.libsysdb),
    directory(ROOT),
    ...under(ROOT, root),
  ];
  const image = [directory(names.directory), ...under(names.directory, ordered(below))];
  await writeTree(dir, image, lock.timestamp);
  await writeFileAtomic(join(dir, names.manifest), manifest);
  await writeFileAtomic(join(dir, names.sigstruct), sigstruct);
  const laidOver = [own(names.manifest, manifest), own(names.sigstruct, sigstruct)];
  const layout = await writeOciLayout(join(dir, names.layout), {
    layers: [image, laidOver].map((entries) => [directory(WORKDIR), ...under(WORKDIR, ordered(entries))]),
    entrypoint: ['gramine-sgx', project.name],
    workdir: `/${WORKDIR}`,
    mtime: lock.timestamp,
  });
  return {
    manifest: built(names.manifest, manifest),
    sigstruct: built(names.sigstruct, sigstruct),
    measurement,
    areas,
    files: measuredFiles(root),
    directory: names.directory,
    layout: names.layout,
    layoutDigest: layout.manifest,
  };
}

const own = (path: string, content: Buffer): TreeEntry => ownEntry({ path, mode: 0o644, content });

const under = (prefix: string, entries: TreeEntry[]): TreeEntry[] =>
  entries.map((entry) => ({
    ...entry,
    path: `${prefix}/${entry.path}`,
    ...(entry.type === 'link' ? { target: `${prefix}/${entry.target}` } : {}),
  }));

/** Every regular file, under each of its names; what its content is was known before. */
function trusted(entries: TreeEntry[]): TrustedFile[] {
  const digests = new Map(
    entries.flatMap(({ type, path, sha256 }) => (type === 'file' ? [[path, sha256] as const] : [])),
  );
  return entries.flatMap(({ type, path, target }) => {
    if (type !== 'file' && type !== 'link') return [];
    const sha256 = digests.get(type === 'file' ? path : (target ?? ''));
    if (sha256 === undefined) throw new TypeError(`the digest of ${path} is not known`);
    return [{ path, sha256 }];
  });
}

const built = (name: string, bytes: Buffer): BuiltFile => ({
  name,
  size: bytes.length,
  sha256: hex(sha256(bytes)),
  sha384: createHash('sha384').update(bytes).digest('hex'),
});

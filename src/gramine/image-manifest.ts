import { MODEL_DIRECTORY, MOST_THREADS } from '../core/layout.ts';
import type { GramineConfig } from '../project/schema.ts';
import type { ManifestTable } from './toml.ts';

/** Names of a Gramine image's files, all of them beside the build manifest; the measured ones are relative to there. */
export const gramineNames = (name: string) => ({
  manifest: `${name}.manifest.sgx`,
  sigstruct: `${name}.sig`,
  /** Holds root/, libpal.so and libsysdb.so. */
  directory: `${name}.gramine`,
  layout: `${name}.oci`,
});

/** In the directory of a Gramine image: the image's root, and Gramine's own two files. */
export const ROOT = 'root';
export const LIBPAL = 'libpal.so';
export const LIBSYSDB = 'libsysdb.so';

/** All that the directory holds. */
export const DIRECTORY_ENTRIES = [ROOT, LIBPAL, LIBSYSDB];

export interface TrustedFile {
  /** Inside the image's root, without a leading "/". */
  path: string;
  /** Hex. */
  sha256: string;
}

/**
 * The URI prefix of everything in an image's root. Relative, and Gramine is started where the manifest lies: so the
 * measurement does not depend on where that is.
 */
export const rootUri = (name: string): string => `file:${gramineNames(name).directory}/${ROOT}`;

/**
 * The manifest of an image of ours, still without what Gramine fills in. It lets nothing of the host's in: no argument,
 * no environment but the address of the launcher, no file but those whose digests it holds.
 *
 * What it says of Node and onnxruntime: no child processes and no io_uring, as neither works inside (without the former
 * the first inference took a second and a half); stacks of Linux's size, for V8 counts on almost one MiB and libuv takes the limit's.
 */
export function imageManifest(
  name: string,
  config: GramineConfig,
  { files, libsysdb }: { files: TrustedFile[]; libsysdb: string },
): ManifestTable {
  const uri = rootUri(name);
  return {
    loader: {
      entrypoint: { uri: `file:${gramineNames(name).directory}/${LIBSYSDB}`, sha256: libsysdb },
      argv: ['/usr/bin/node', '/app/program.mjs'],
      env: {
        PATH: '/usr/bin:/bin',
        HOME: '/tmp',
        LANG: 'C.UTF-8',
        LD_LIBRARY_PATH: '/lib64:/lib/x86_64-linux-gnu',
        ORT_DISABLE_TELEMETRY: '1',
        UV_USE_IO_URING: '0',
        [MOST_THREADS]: String(Math.max(1, config.max_threads - OTHER_THREADS)),
        // The one thing that a host says; the program reads it as such.
        ATOMA_TEE_HOST: { passthrough: true },
      },
      log_level: 'error',
    },
    libos: { entrypoint: '/usr/bin/node' },
    fs: { root: { type: 'chroot', uri }, mounts: IN_MEMORY.map((path) => ({ type: 'tmpfs', path })) },
    sys: { disallow_subprocesses: true, stack: { size: '8M' } },
    sgx: {
      trusted_files: sorted(files).map(({ path, sha256 }) => ({ uri: `${uri}/${path}`, sha256 })),
      max_threads: BigInt(config.max_threads),
      isvprodid: BigInt(config.isvprodid),
      isvsvn: BigInt(config.isvsvn),
      remote_attestation: 'dcap',
      debug: config.debug,
      edmm_enable: config.edmm,
      enclave_size: config.enclave_size,
      // With EDMM, reserved memory that is touched first has to raise a fault that Gramine is told of.
      use_exinfo: config.edmm,
    },
  };
}

/** Gramine's helpers, Node's main thread, V8's and libuv's: nine in all were seen, two of them onnxruntime's (gramine.md). */
const OTHER_THREADS = 16;

/**
 * Inside the enclave's memory. The model is opened below /run, and its directory is removed after use: it must be no mount
 * point of its own, which cannot be removed.
 */
const IN_MEMORY = ['/tmp', `/${MODEL_DIRECTORY.split('/')[0]}`];

/** Bytewise: one order on every machine. */
const sorted = (files: TrustedFile[]): TrustedFile[] =>
  [...files].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));

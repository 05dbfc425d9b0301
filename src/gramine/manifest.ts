import { resolve } from 'node:path';
import type { OnProgress } from '../core/progress.ts';
import { withDefaults } from './defaults.ts';
import { hashTrustedFiles } from './hash-pool.ts';
import { checkManifest } from './schema.ts';
import { encodeManifest, type ManifestTable } from './toml.ts';
import { newTable } from './toml-values.ts';
import { expandTrustedFiles, missingFiles, type TrustedFile } from './trusted-files.ts';
import { hostPath, statOrNull, uriPath } from './trusted-files-path.ts';

export { checkManifest } from './schema.ts';
export { encodeManifest, ManifestDate, type ManifestTable, parseManifest } from './toml.ts';
export { newTable } from './toml-values.ts';

export interface FinishOptions {
  /** libsysdb.so for manifests that name no loader.entrypoint: what they say (`file:...`) and where it is. */
  libos?: { uri: string; path: string } | undefined;
  /** What relative `file:` URIs are relative to. */
  directory: string;
  /** Trusted files (not loader.entrypoint) are looked for inside of this directory. */
  chroot?: string | undefined;
  /** false: keys and values are not compared with Gramine's schema. */
  check?: boolean | undefined;
  onProgress?: OnProgress | undefined;
  signal?: AbortSignal | undefined;
}

export interface FinishedManifest {
  bytes: Buffer;
  table: ManifestTable;
  trustedFiles: number;
  /** URIs found in directories that Gramine leaves out: pipes, sockets, dangling links, what may not be read. */
  skipped: string[];
  /** Links in a chroot by which Gramine's own tool may make another manifest on another machine; see `expandTrustedFiles`. */
  hostLinks: string[];
}

/**
 * Completes a manifest as `gramine-manifest` and `gramine-sgx-sign` do: defaults in Gramine's order, the schema, trusted files expanded
 * and hashed. Entries that carry a sha256 are not opened, so a complete manifest comes back as it is, on any machine.
 *
 * Errors: those of `withDefaults`, `checkManifest`, `expandTrustedFiles`, `hashTrustedFiles` and `encodeManifest`.
 */
export async function finishManifest(table: ManifestTable, options: FinishOptions): Promise<FinishedManifest> {
  const { libos, directory, chroot, check = true } = options;
  const manifest = withDefaults(table, libos?.uri);
  if (check) checkManifest(manifest);
  const sgx = manifest.sgx as ManifestTable;
  const entrypoint = (manifest.loader as ManifestTable).entrypoint as ManifestTable;

  const root = { directory, chroot: chroot === undefined ? undefined : resolve(chroot).replace(/\/$/, '') };
  const { files, skipped, hostLinks } = expandTrustedFiles(sgx.trusted_files as unknown[], root);
  const open: (TrustedFile & { source: { path: string; size: number } })[] = [];
  if (!('sha256' in entrypoint)) {
    const uri = entrypoint.uri as string;
    const path = uri === libos?.uri ? libos.path : hostPath(uriPath(uri), { directory });
    const stat = statOrNull(path);
    if (stat === null) throw missingFiles([uri]);
    open.push({ uri, source: { path, size: stat.size } });
  }
  for (const file of files) if (file.source) open.push({ ...file, source: file.source });

  const sources = open.map((file) => file.source);
  const digests = await hashTrustedFiles(sources, options);
  if (!('sha256' in entrypoint)) entrypoint.sha256 = digests.shift();
  const computed = digests.values();
  sgx.trusted_files = files.map(({ uri, sha256 }) =>
    newTable([
      ['uri', uri],
      ['sha256', sha256 ?? computed.next().value],
    ]),
  );
  return { bytes: encodeManifest(manifest), table: manifest, trustedFiles: files.length, skipped, hostLinks };
}

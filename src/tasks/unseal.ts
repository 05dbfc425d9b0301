import { usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { normalisePath, type PfVersion, protectedFilesSink, readWrapKey } from '../gramine/pf/index.ts';
import { readOwnerPublicKey, readXWingPrivateKey } from '../keys/keys.ts';
import { type UnsealResult, unsealFile } from '../seal/index.ts';

/** Key files are paths; the output directory must not exist. */
export interface UnsealTaskOptions {
  sealed: string;
  key: string;
  owner?: string | undefined;
  out: string;
  format?: 'files' | 'gramine-pf' | undefined;
  /** For gramine-pf: file with 16 bytes; `pfPath` is `out` unless given, `pfVersion` 1. */
  wrapKey?: string | undefined;
  pfPath?: string | undefined;
  pfVersion?: PfVersion | undefined;
  onProgress?: OnProgress;
}

/** `protectedFiles.path`: of the URIs at which Gramine opens them, without "file:" and the path in the model. */
export interface UnsealTaskResult extends UnsealResult {
  format: 'files' | 'gramine-pf';
  protectedFiles?: { path: string; version: PfVersion };
}

/** `atoma-tee unseal`. Throws as unsealFile; `ERR_USAGE`, `ERR_PF_WRAP_KEY`, `ERR_PF_NAME` (exit 2). */
export async function unseal(options: UnsealTaskOptions): Promise<UnsealTaskResult> {
  const protect = await protection(options);
  const key = readXWingPrivateKey(await readSmallFile(options.key, 'recovery key'));
  const owner = options.owner ? readOwnerPublicKey(await readSmallFile(options.owner, 'owner key')).raw : undefined;
  try {
    const result = await unsealFile({
      sealed: options.sealed,
      key,
      ...(owner ? { owner } : {}),
      out: options.out,
      ...(protect ? { sink: (directory, files) => protectedFilesSink(directory, files, protect) } : {}),
      ...(options.onProgress ? { onProgress: options.onProgress } : {}),
    });
    if (!protect) return { ...result, format: 'files' };
    return { ...result, format: 'gramine-pf', protectedFiles: { path: protect.prefix, version: protect.version } };
  } finally {
    protect?.wrapKey.fill(0);
  }
}

async function protection({ format, wrapKey, pfPath, pfVersion, out }: UnsealTaskOptions) {
  if (format !== 'gramine-pf') {
    const given = wrapKey ?? pfPath ?? pfVersion;
    if (given === undefined) return null;
    throw usageError(
      'ERR_USAGE',
      'expected --format gramine-pf with --wrap-key, --pf-path or --pf-version, found none',
    );
  }
  if (wrapKey === undefined) {
    throw usageError('ERR_USAGE', 'expected --wrap-key FILE with --format gramine-pf, found none', {
      hint: '(umask 077; head -c16 /dev/urandom > wrap.key) makes one',
    });
  }
  return {
    wrapKey: await readWrapKey(wrapKey),
    prefix: normalisePath((pfPath ?? out).replace(/^file:/, '')),
    version: pfVersion ?? 1,
  };
}

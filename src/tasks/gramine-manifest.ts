import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { ioError, readSmallFile, writeFileAtomic } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import { requireOtherThan } from '../core/same-file.ts';
import { finishManifest, parseManifest } from '../gramine/manifest.ts';
import { renderTemplate } from '../gramine/template.ts';
import { findGramine } from '../gramine/template-programs.ts';
import { MAX_MANIFEST } from '../gramine/toml.ts';

export interface GramineManifestOptions {
  /** A file, or the text itself (`-c`). */
  template: { path: string } | { text: string };
  /** `NAME=VALUE`, or `NAME` for true. */
  defines?: string[];
  /** What relative `file:` URIs and paths of the template are relative to. Default: the current directory. */
  directory?: string;
  chroot?: string | undefined;
  check?: boolean;
  /** Directory of an installed Gramine; default: where distributions put it. */
  gramine?: string | undefined;
  env?: NodeJS.ProcessEnv;
  out: string;
  onProgress?: OnProgress;
  signal?: AbortSignal;
}

export interface GramineManifestResult {
  path: string;
  /** Of the manifest's bytes; they are what `gramine sign` measures. */
  sha256: string;
  size: number;
  trustedFiles: number;
  /** URIs in trusted directories that Gramine leaves out. */
  skipped: string[];
  /** Links in the chroot that Gramine's own tool would follow on this machine. */
  hostLinks: string[];
}

/**
 * What `gramine-manifest` does, byte for byte: renders a template, fills in defaults, checks, hashes trusted files. Errors:
 * `ERR_GRAMINE_*` of src/gramine/{template,toml,manifest}.ts, `ERR_FILE_*`, `ERR_OUTPUT_INPUT`.
 */
export async function gramineManifest(options: GramineManifestOptions): Promise<GramineManifestResult> {
  if ('path' in options.template) await requireOtherThan(options.out, [options.template.path]);
  const directory = resolve(options.directory ?? '.');
  const gramine = options.gramine === undefined ? findGramine() : resolve(options.gramine);
  if (options.chroot !== undefined) await requireDirectory(options.chroot, '--chroot');
  if (options.gramine !== undefined) await requireDirectory(options.gramine, '--gramine');
  const { text, file } = await readTemplate(options.template);
  const rendered = renderTemplate(text, {
    file,
    defines: readDefines(options.defines ?? []),
    env: options.env ?? process.env,
    gramine,
    directory,
  });
  const libos = gramine === undefined ? undefined : join(gramine, 'libsysdb.so');
  const { bytes, trustedFiles, skipped, hostLinks } = await finishManifest(parseManifest(rendered, file), {
    libos: libos === undefined ? undefined : { uri: `file:${libos}`, path: libos },
    directory,
    chroot: options.chroot,
    check: options.check,
    onProgress: options.onProgress,
    signal: options.signal,
  });
  await writeFileAtomic(options.out, bytes);
  return { path: options.out, sha256: hex(sha256(bytes)), size: bytes.length, trustedFiles, skipped, hostLinks };
}

async function readTemplate(template: GramineManifestOptions['template']): Promise<{ text: string; file: string }> {
  if ('text' in template) return { text: template.text, file: 'the text of -c' };
  const bytes = await readSmallFile(template.path, 'manifest template', MAX_MANIFEST);
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes), file: template.path };
  } catch {
    throw usageError('ERR_GRAMINE_SYNTAX', `${template.path}: expected text in UTF-8`);
  }
}

function readDefines(defines: string[]): Record<string, string | true> {
  const pairs = defines.map((define): [string, string | true] => {
    const at = define.indexOf('=');
    return at < 0 ? [define, true] : [define.slice(0, at), define.slice(at + 1)];
  });
  return Object.fromEntries(pairs);
}

async function requireDirectory(path: string, flag: string): Promise<void> {
  const found = await stat(path).catch((error) => {
    throw ioError(error, `cannot use ${path} for ${flag}`);
  });
  if (!found.isDirectory())
    throw usageError('ERR_FILE_KIND', `expected a directory for ${flag}, found a file: ${path}`);
}

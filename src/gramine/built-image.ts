import { basename, dirname, join } from 'node:path';
import { hex, sha256 } from '../core/bytes.ts';
import { negativeError, usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import { MEASURED_CONFIG_PATH } from '../core/layout.ts';
import { type MeasuredConfig, parseMeasuredConfig } from '../core/measured-config.ts';
import type { SgxMeasurement } from '../core/measurement.ts';
import { compareRoot } from './compare-root.ts';
import type { HashOptions } from './hash-pool.ts';
import { gramineNames, LIBPAL, LIBSYSDB, ROOT, rootUri } from './image-manifest.ts';
import { type MeasureOptions, measureEnclave } from './measure.ts';
import { type SgxSettings, sgxSettings } from './settings.ts';
import { parseSigstruct, type Sigstruct, signedBytes, signerOf, verifySigstruct } from './sigstruct.ts';
import { unsignedSigstruct } from './sigstruct-write.ts';
import { MAX_MANIFEST, type ManifestTable, parseManifest } from './toml.ts';
import { missingFiles } from './trusted-files.ts';

/** A Gramine image of ours as it lies on the disk, measured anew. */
export interface BuiltGramineImage {
  /** Of the image: "digits" of digits.manifest.sgx. */
  name: string;
  /** Where it lies: what the manifest's URIs are relative to. */
  directory: string;
  manifest: Buffer;
  table: ManifestTable;
  sigstruct: Buffer;
  /** Hex, of both files. */
  sha256: { manifest: string; sigstruct: string };
  settings: SgxSettings;
  measurement: SgxMeasurement;
  config: MeasuredConfig;
}

const MAX_LIBRARY = 64 << 20;
const MAX_CONFIG = 1 << 20;
const SUFFIX = gramineNames('').manifest;

/**
 * Reads and measures the image of a manifest.sgx. Nothing of what its builder says is believed: MRENCLAVE is computed from the
 * manifest and libpal.so, and the signature has to be over exactly that enclave. The measured configuration is read
 * from the image's root; its digest is in the manifest, and so is that of libsysdb.so.
 *
 * Throws `ERR_SIGSTRUCT_SIGNATURE`, `ERR_SIGSTRUCT_OTHER`, `ERR_GRAMINE_FILE_DIGEST` (exit 3), and what reading, parsing and
 * measuring throw (exit 2).
 */
export async function readBuiltImage(path: string, options: MeasureOptions = {}): Promise<BuiltGramineImage> {
  const name = basename(path, SUFFIX);
  if (`${name}${SUFFIX}` !== basename(path) || name === '') {
    throw usageError('ERR_USAGE', `${path}: expected the name of a manifest to be NAME${SUFFIX}`);
  }
  const directory = dirname(path);
  const beside = (file: string) => join(directory, file);
  const manifest = await readSmallFile(path, 'Gramine manifest', MAX_MANIFEST);
  const sigstruct = await readSmallFile(beside(gramineNames(name).sigstruct), 'enclave signature', 1 << 16);
  const own = gramineNames(name).directory;
  const libpal = await readSmallFile(beside(join(own, LIBPAL)), 'Gramine library', MAX_LIBRARY);
  const table = parseManifest(manifest.toString('utf8'), path);
  const settings = sgxSettings(table);
  const { mrenclave } = await measureEnclave(manifest, libpal, settings, options);
  const mrsigner = requireSignature(parseSigstruct(sigstruct), settings, mrenclave);
  const file = (relative: string, uri: string, most: number) =>
    readTrusted(beside(join(own, relative)), trustedDigest(table, uri), uri, most);
  await file(LIBSYSDB, `file:${own}/${LIBSYSDB}`, MAX_LIBRARY);
  const config = await file(join(ROOT, MEASURED_CONFIG_PATH), `${rootUri(name)}/${MEASURED_CONFIG_PATH}`, MAX_CONFIG);
  const { isvprodid, isvsvn } = settings;
  return {
    name,
    directory,
    manifest,
    table,
    sigstruct,
    sha256: { manifest: hex(sha256(manifest)), sigstruct: hex(sha256(sigstruct)) },
    settings,
    measurement: { tee: 'sgx', mrenclave, mrsigner, isvprodid, isvsvn },
    config: parseMeasuredConfig(config),
  };
}

/** MRSIGNER of a signature that is good, and over just this enclave with just these settings. */
function requireSignature(sigstruct: Sigstruct, settings: SgxSettings, mrenclave: string): string {
  const { signature, quotients } = verifySigstruct(sigstruct);
  if (!signature || !quotients) {
    const found = signature ? 'one whose quotients are wrong' : 'one that does not verify';
    throw negativeError(
      'ERR_SIGSTRUCT_SIGNATURE',
      `enclave signature: expected its own key's signature, found ${found}`,
    );
  }
  const expected = signedBytes(unsignedSigstruct(settings, mrenclave, sigstruct.date));
  if (sigstruct.signed.equals(expected)) return signerOf(sigstruct.modulus);
  const found = hex(sigstruct.mrenclave);
  const what = found === mrenclave ? 'other attributes or versions than the manifest says' : `MRENCLAVE ${found}`;
  throw negativeError(
    'ERR_SIGSTRUCT_OTHER',
    `enclave signature: expected one over MRENCLAVE ${mrenclave} as the manifest has it, found ${what}`,
  );
}

/** The digest that the manifest, which is measured, has for a file. */
function trustedDigest({ loader, sgx }: ManifestTable, uri: string): unknown {
  const entrypoint = (loader as ManifestTable | undefined)?.entrypoint as
    | { uri?: unknown; sha256?: unknown }
    | undefined;
  if (entrypoint?.uri === uri) return entrypoint.sha256;
  const files = (sgx as ManifestTable).trusted_files;
  const entry = (Array.isArray(files) ? files : []).find((file) => file?.uri === uri);
  if (entry !== undefined) return entry.sha256;
  throw usageError(
    'ERR_GRAMINE_VALUE',
    `expected the manifest to have ${uri} among its trusted files, found no such entry`,
    {
      hint: 'an image of `atoma-tee build --target gramine` has it',
    },
  );
}

async function readTrusted(path: string, expected: unknown, uri: string, most: number): Promise<Buffer> {
  const bytes = await readSmallFile(path, 'trusted file', most);
  const found = hex(sha256(bytes));
  if (found === expected) return bytes;
  throw negativeError(
    'ERR_GRAMINE_FILE_DIGEST',
    `${uri} is not the file that the manifest measures: expected sha256 ${expected}, found ${found}`,
    { hint: CHANGED_HINT },
  );
}

const CHANGED_HINT = 'somebody changed the image after it was built: build it again';

/**
 * Holds every file of the image's root against the manifest: what Gramine would do one by one as the program opens them,
 * with errors that the program may swallow. Files that the manifest does not trust are let be: Gramine opens none.
 *
 * Throws `ERR_GRAMINE_TRUSTED_MISSING` (exit 2), `ERR_GRAMINE_FILE_DIGEST` (exit 3), each with all files that it is about.
 */
export async function requireRoot(image: BuiltGramineImage, options: HashOptions = {}): Promise<void> {
  const { missing, outside, changed } = await compareRoot(image, options);
  const prefix = rootUri(image.name);
  if (missing.length + outside.length > 0)
    throw missingFiles([...missing.map((path) => `${prefix}/${path}`), ...outside]);
  if (changed.length === 0) return;
  const names = changed.slice(0, 20).join(', ');
  const more = changed.length > 20 ? `, and ${changed.length - 20} more` : '';
  throw negativeError(
    'ERR_GRAMINE_FILE_DIGEST',
    `expected the files that the manifest measures, found others in their place: ${names}${more}`,
    { hint: CHANGED_HINT },
  );
}

import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { compare } from '../../core/check.ts';
import { usageError } from '../../core/errors.ts';
import { readSmallFile } from '../../core/files.ts';
import type { SgxMeasurement } from '../../core/measurement.ts';
import type { OnProgress } from '../../core/progress.ts';
import {
  enclaveAttributes,
  measureEnclave,
  parseSigstruct,
  SIGSTRUCT_SIZE,
  sgxSettings,
  signerOf,
} from '../../gramine/index.ts';
import { parseManifest } from '../../gramine/manifest.ts';
import { MAX_MANIFEST } from '../../gramine/toml.ts';
import { MAX_LIBPAL } from '../gramine-sign.ts';
import { compareMeasurement, type Expected, registersFor } from './expect.ts';
import type { Findings } from './report.ts';
import { debugCheck, settingsChecks, sigstructChecks } from './sigstruct.ts';

/** What there is of an SGX enclave, as bytes. */
export interface EnclaveFiles {
  /** NAME.manifest.sgx; `path` is for error texts. */
  manifest?: { path: string; bytes: Buffer } | undefined;
  sigstruct?: Buffer | undefined;
  libpal?: Buffer | undefined;
}

export interface EnclaveTrust {
  expected: Expected;
  /** A DEBUG enclave will do; said in the verdict. */
  acceptDebug?: boolean | undefined;
  onProgress?: OnProgress | undefined;
}

/**
 * An SGX enclave: signature, manifest against signature, MRENCLAVE computed from manifest and libpal, and all of it
 * against what is expected. Whatever is not there is listed as not checked. Returns the measurement where all could be read.
 */
export async function checkEnclave(
  files: EnclaveFiles,
  { expected, acceptDebug = false, onProgress }: EnclaveTrust,
  findings: Findings,
): Promise<SgxMeasurement | undefined> {
  const { manifest, sigstruct: signature, libpal } = files;
  const sigstruct = signature && (await findings.step('sigstruct.format', () => parseSigstruct(signature)));
  if (signature && !sigstruct) return undefined;
  if (sigstruct) findings.add(...sigstructChecks(sigstruct));

  const settings =
    manifest &&
    (await findings.step('manifest.format', () =>
      sgxSettings(parseManifest(manifest.bytes.toString('utf8'), manifest.path)),
    ));
  if (manifest && !settings) return undefined;
  if (sigstruct && settings) findings.add(...settingsChecks(sigstruct, settings));
  const attributes = sigstruct ?? (settings && enclaveAttributes(settings));
  if (attributes) findings.add(debugCheck(attributes, acceptDebug));
  const computed =
    manifest && settings && libpal
      ? await findings.step('measurement.computed', () =>
          measureEnclave(manifest.bytes, libpal, settings, { onProgress }),
        )
      : undefined;
  if (settings && libpal && !computed) return undefined;
  const signed = sigstruct?.mrenclave.toString('hex');
  if (computed && signed !== undefined) {
    findings.add(compare('measurement.signed', signed, computed.mrenclave, 'MRENCLAVE of manifest and libpal.so'));
  }
  listUnchecked(files, expected, findings);

  const found = {
    tee: 'sgx',
    mrenclave: computed?.mrenclave ?? signed,
    ...(sigstruct ? { mrsigner: signerOf(sigstruct.modulus) } : {}),
    isvprodid: (sigstruct ?? settings)?.isvprodid,
    isvsvn: (sigstruct ?? settings)?.isvsvn,
  } as SgxMeasurement;
  findings.add(...compareMeasurement(expected, found));
  return found;
}

function listUnchecked({ manifest, sigstruct, libpal }: EnclaveFiles, expected: Expected, findings: Findings): void {
  const list = findings.notChecked;
  if (!manifest) {
    list.push('which manifest and which libpal.so have this MRENCLAVE: NAME.manifest.sgx is not beside the signature');
  } else {
    if (!libpal)
      list.push('that MRENCLAVE is that of the manifest: there is no libpal.so to compute it with (--libpal)');
    list.push("the trusted files: Gramine compares each with the manifest's sha256 when it is opened");
  }
  if (!sigstruct) list.push('who signed the enclave: there is no NAME.sig');
  else if (registersFor(expected, 'sgx')?.mrsigner === undefined) {
    list.push('who signed the enclave: any key will do (--expect mrsigner=HEX insists on one)');
  }
}

export interface EnclaveOptions {
  files: string[];
  /** Path. */
  libpal?: string | undefined;
}

/**
 * Reads a manifest or a SIGSTRUCT with what belongs to it: its other half, on the command line or beside it, and a libpal.so,
 * named or in NAME.gramine. Throws `ERR_NO_LIBPAL` for a manifest without one: nothing would tie its bytes to a measurement.
 */
export async function readEnclave(
  file: string,
  kind: 'gramine-manifest' | 'sigstruct',
  options: EnclaveOptions,
): Promise<EnclaveFiles> {
  const names = namesOf(file, kind);
  const given = options.files.filter((path) => path !== file);
  const other = kind === 'sigstruct' ? names.manifest : names.sigstruct;
  // One of each on the command line belong together, whatever they are called.
  const partner =
    given.find((path) => other !== undefined && resolve(path) === resolve(other)) ??
    (given.length === 1 ? given[0] : undefined) ??
    (other !== undefined && existsSync(other) ? other : undefined);
  const [manifest, sigstruct] = kind === 'sigstruct' ? [partner, file] : [file, partner];
  const libpal = options.libpal ?? (names.libpal !== undefined && existsSync(names.libpal) ? names.libpal : undefined);
  if (kind === 'gramine-manifest' && libpal === undefined) {
    throw usageError('ERR_NO_LIBPAL', `expected the libpal.so that is measured with ${file}, found none`, {
      hint: 'give --libpal FILE; or verify the .sig alone, which says what was signed and not that this manifest was',
    });
  }
  if (manifest === undefined && options.libpal !== undefined) {
    throw usageError('ERR_USAGE', `--libpal: expected the manifest that it is measured with, found ${file} alone`, {
      hint: 'name the .manifest.sgx too',
    });
  }
  return {
    ...(manifest === undefined
      ? {}
      : { manifest: { path: manifest, bytes: await readSmallFile(manifest, 'manifest', MAX_MANIFEST) } }),
    ...(sigstruct === undefined ? {} : { sigstruct: await readSmallFile(sigstruct, 'SIGSTRUCT', 2 * SIGSTRUCT_SIZE) }),
    ...(manifest === undefined || libpal === undefined
      ? {}
      : { libpal: await readSmallFile(libpal, 'libpal', MAX_LIBPAL) }),
  };
}

/** The names that Gramine gives to what belongs together, beside `file`; none where it is called otherwise. */
export function namesOf(file: string, kind: 'gramine-manifest' | 'sigstruct') {
  const end = kind === 'sigstruct' ? '.sig' : '.manifest.sgx';
  if (!basename(file).endsWith(end)) return {};
  const name = join(dirname(file), basename(file, end));
  return { manifest: `${name}.manifest.sgx`, sigstruct: `${name}.sig`, libpal: join(`${name}.gramine`, 'libpal.so') };
}

import { existsSync } from 'node:fs';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { readSmallFile } from '../core/files.ts';
import type { OnProgress } from '../core/progress.ts';
import {
  ATTRIBUTE,
  type EnclaveArea,
  measureEnclave,
  parseSigstruct,
  SIGSTRUCT_SIZE,
  sgxSettings,
  signerOf,
  verifySigstruct,
} from '../gramine/index.ts';
import { parseManifest } from '../gramine/manifest.ts';
import { MAX_MANIFEST } from '../gramine/toml.ts';
import { isTable } from '../gramine/toml-values.ts';
import { MAX_LIBPAL } from './gramine-sign.ts';
import { namesOf } from './verify/gramine.ts';

export interface InspectEnclaveOptions {
  /** Path. */
  libpal?: string | undefined;
  layout?: boolean | undefined;
  onProgress?: OnProgress | undefined;
}

/** An area for JSON; what it means, `EnclaveArea` says. */
export type ShownArea = Omit<EnclaveArea, 'address' | 'size'> & { address: string; size: number };

/**
 * What a signed manifest of Gramine claims; with a libpal.so its MRENCLAVE, with `layout` also the areas of the enclave.
 * Throws `ERR_GRAMINE_*`, `ERR_ELF_*`, and `ERR_NO_LIBPAL` where `layout` has none (exit 2).
 */
export async function inspectGramineManifest(path: string, { libpal, layout, onProgress }: InspectEnclaveOptions) {
  const bytes = await readSmallFile(path, 'manifest', MAX_MANIFEST);
  const table = parseManifest(bytes.toString('utf8'), path);
  const settings = sgxSettings(table);
  const { enclaveSize, ...rest } = settings;
  const sgx = table.sgx as Record<string, unknown>;
  const list = (name: string): unknown[] => (Array.isArray(sgx[name]) ? (sgx[name] as unknown[]) : []);
  const beside = namesOf(path, 'gramine-manifest').libpal;
  const pal = libpal ?? (beside !== undefined && existsSync(beside) ? beside : undefined);
  if (layout && pal === undefined) {
    throw usageError('ERR_NO_LIBPAL', `expected the libpal.so that is measured with ${path}, found none`, {
      hint: 'give --libpal FILE',
    });
  }
  const measured =
    pal === undefined
      ? undefined
      : await measureEnclave(bytes, await readSmallFile(pal, 'libpal', MAX_LIBPAL), settings, { onProgress });
  return {
    kind: 'gramine-manifest',
    verified: false,
    size: bytes.length,
    sha256: hex(sha256(bytes)),
    settings: { enclaveSize: Number(enclaveSize), ...rest, remoteAttestation: sgx.remote_attestation ?? 'none' },
    entrypoint: uriOf(isTable(table.loader) ? table.loader.entrypoint : undefined),
    trustedFiles: list('trusted_files').length,
    allowedFiles: list('allowed_files').map(String),
    insecure: insecureKeys(table),
    ...(measured ? { libpal: pal, mrenclave: measured.mrenclave } : {}),
    ...(measured && layout ? { areas: measured.areas.map(shownArea) } : {}),
  };
}

const uriOf = (value: unknown): string | null => (isTable(value) && typeof value.uri === 'string' ? value.uri : null);

const shownArea = ({ address, size, ...area }: EnclaveArea): ShownArea => ({
  ...area,
  address: `0x${address.toString(16)}`,
  size: Number(size),
});

/** Keys that Gramine itself calls insecure and that are not switched off. */
function insecureKeys(table: Record<string, unknown>): string[] {
  return Object.entries(table).flatMap(([name, value]) =>
    isTable(value)
      ? Object.entries(value).flatMap(([key, setting]) =>
          key.startsWith('insecure__') && setting !== false && setting !== 0n ? [`${name}.${key}`] : [],
        )
      : [],
  );
}

/** Every field of a SIGSTRUCT, and whether its signature is its modulus's. Throws `ERR_SIGSTRUCT_MALFORMED` (exit 2). */
export async function inspectSigstruct(path: string) {
  const sigstruct = parseSigstruct(await readSmallFile(path, 'SIGSTRUCT', 2 * SIGSTRUCT_SIZE));
  const { signature, quotients } = verifySigstruct(sigstruct);
  const { modulus, mrenclave, isvprodid, isvsvn } = sigstruct;
  const bits = (value: bigint) => `0x${value.toString(16).padStart(16, '0')}`;
  return {
    kind: 'sigstruct',
    verified: false,
    measurement: { tee: 'sgx', mrenclave: hex(mrenclave), mrsigner: signerOf(modulus), isvprodid, isvsvn },
    debug: (sigstruct.flags & ATTRIBUTE.debug) !== 0n,
    signature: { valid: signature, quotients: quotients ? 'right' : 'wrong' },
    date: sigstruct.date,
    vendor: `0x${sigstruct.vendor.toString(16)}`,
    swdefined: sigstruct.swdefined,
    attributes: { flags: bits(sigstruct.flags), xfrm: bits(sigstruct.xfrm) },
    attributesMask: { flags: bits(sigstruct.flagsMask), xfrm: bits(sigstruct.xfrmMask) },
    miscselect: `0x${sigstruct.miscselect.toString(16)}`,
    miscmask: `0x${sigstruct.miscmask.toString(16)}`,
    cet: { attributes: sigstruct.cetAttributes, mask: sigstruct.cetAttributesMask },
    isvfamilyid: hex(sigstruct.isvfamilyid),
    isvextprodid: hex(sigstruct.isvextprodid),
    exponent: sigstruct.exponent,
    modulus: hex(modulus),
    signatureBytes: hex(sigstruct.signature),
    q1: hex(sigstruct.q1),
    q2: hex(sigstruct.q2),
  };
}

import { missingError, usageError } from '../core/errors.ts';
import { isTable, type ManifestTable, newTable } from './toml-values.ts';

const CPU_FEATURES = {
  avx: 'unspecified',
  avx512: 'unspecified',
  amx: 'unspecified',
  mpx: 'disabled',
  pkru: 'disabled',
};

/**
 * Fills in what a manifest leaves out, as Gramine 1.9 does (python/graminelibos/manifest.py, Manifest.__init__): keys that are there
 * keep their place, missing ones are appended in this order. Returns a copy; deeper tables that do not change are shared.
 * `libos` is the URI of libsysdb.so for manifests that do not name one.
 *
 * Errors: `ERR_GRAMINE_VALUE` for something else where a table belongs, `ERR_GRAMINE_MISSING` without any libsysdb.so.
 */
export function withDefaults(table: ManifestTable, libos: string | undefined): ManifestTable {
  const manifest = copy(table);
  const sgx = subTable(manifest, 'sgx', 'sgx');
  const trusted = setDefault(sgx, 'trusted_files', []);
  setDefault(sgx, 'max_threads', 4n);
  setDefault(sgx, 'isvprodid', 0n);
  setDefault(sgx, 'isvsvn', 0n);
  setDefault(sgx, 'remote_attestation', 'none');
  setDefault(sgx, 'debug', false);
  setDefault(sgx, 'enable_stats', false);
  const edmm = setDefault(sgx, 'edmm_enable', false);
  setDefault(sgx, 'enclave_size', isTrue(edmm) ? '1024G' : '256M');
  setDefault(sgx, 'use_exinfo', false);
  const features = subTable(sgx, 'cpu_features', 'sgx.cpu_features');
  for (const [feature, value] of Object.entries(CPU_FEATURES)) setDefault(features, feature, value);

  if (!Array.isArray(trusted)) throw expected('sgx.trusted_files', 'an array');
  sgx.trusted_files = trusted.map((entry: unknown) => {
    if (typeof entry === 'string') return newTable([['uri', entry]]);
    if (isTable(entry) && 'uri' in entry) return entry;
    throw expected('sgx.trusted_files', 'URIs or tables with a uri');
  });

  const entrypoint = subTable(subTable(manifest, 'loader', 'loader'), 'entrypoint', 'loader.entrypoint');
  if (!('uri' in entrypoint)) {
    if (libos === undefined) throw noLibos();
    entrypoint.uri = libos;
  }
  if (typeof entrypoint.uri !== 'string') throw expected('loader.entrypoint.uri', 'a string');
  return manifest;
}

const copy = (table: ManifestTable): ManifestTable => newTable(Object.entries(table));

const expected = (key: string, what: string) =>
  usageError('ERR_GRAMINE_VALUE', `"${key}": expected ${what}`, { details: { key } });

function setDefault(table: ManifestTable, key: string, value: unknown): unknown {
  if (!(key in table)) table[key] = value;
  return table[key];
}

/** A copy of the table under `key`, put in its place, or a new one at the end. */
function subTable(table: ManifestTable, key: string, name: string): ManifestTable {
  const there = setDefault(table, key, newTable());
  if (!isTable(there)) throw expected(name, 'a table');
  const mine = copy(there);
  table[key] = mine;
  return mine;
}

/** Python's truth, for manifests that nobody checks (`--no-check`). */
function isTrue(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (isTable(value)) return Object.keys(value).length > 0;
  return Boolean(value);
}

const noLibos = () =>
  missingError('ERR_GRAMINE_MISSING', 'expected an installed Gramine for its libsysdb.so, found none', {
    hint: 'install Gramine, name its directory (--gramine), or set loader.entrypoint in the manifest',
  });

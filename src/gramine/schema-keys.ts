import * as z from 'zod';
import { isTable, type ManifestTable } from './toml-values.ts';

/** Every key of Gramine 1.9 (python/graminelibos/manifest_check.py). The keys are also what "did you mean" chooses from. */

const text = z.string('expected a string');
const flag = z.boolean('expected true or false');
const integer = z.bigint('expected an integer');
const oneOf = (...values: string[]) => z.enum(values, `expected one of ${values.map((v) => `"${v}"`).join(', ')}`);
const list = <T extends z.ZodType>(item: T) => z.array(item, 'expected an array');
const table = <T extends z.core.$ZodShape>(shape: T) =>
  z.strictObject(shape, { error: (issue) => (issue.code === 'invalid_type' ? 'expected a table' : undefined) });
/** Names that the user chooses. As a Map, because "__proto__" and "constructor" are names like any other here. */
const named = <T extends z.ZodType>(value: T) =>
  z.preprocess(
    (t) => (typeof t === 'object' && t !== null && !Array.isArray(t) ? new Map(Object.entries(t)) : t),
    z.map(z.string(), value, { error: (issue) => (issue.code === 'invalid_type' ? 'expected a table' : undefined) }),
  );

const sha256 = z.string().regex(/^[0-9A-Fa-f]{64}$/, 'expected a SHA-256 of 64 hex digits');

/** By `type`; a mount also has a path, fs.root has none. */
const MOUNTS = {
  chroot: { type: z.literal('chroot').optional(), uri: text },
  encrypted: { type: z.literal('encrypted'), uri: text, key_name: text.optional(), enable_recovery: flag.optional() },
  tmpfs: { type: z.literal('tmpfs'), uri: text.optional() },
  untrusted_shm: { type: z.literal('untrusted_shm'), uri: text },
};
const mount = <T extends z.core.$ZodShape>(more: T) =>
  z.discriminatedUnion(
    'type',
    [
      table({ ...MOUNTS.chroot, ...more }),
      table({ ...MOUNTS.encrypted, ...more }),
      table({ ...MOUNTS.tmpfs, ...more }),
      table({ ...MOUNTS.untrusted_shm, ...more }),
    ],
    {
      error: (issue) =>
        issue.code === 'invalid_union' ? `expected one of ${Object.keys(MOUNTS).join(', ')}` : 'expected a table',
    },
  );

const fs = {
  mounts: list(mount({ path: text })),
  root: mount({}).optional(),
  start_dir: text.optional(),
  insecure__keys: named(text).optional(),
};

const libos = { entrypoint: text, check_invalid_pointers: flag.optional() };

/** A function, because of a union's members zod reports about one of them only. */
function isEnvironmentValue(value: unknown): boolean {
  if (typeof value === 'string') return true;
  if (!isTable(value)) return false;
  const entries = Object.entries(value);
  return entries.every(
    ([k, v]) => entries.length === 1 && (k === 'value' ? typeof v === 'string' : k === 'passthrough' && v === true),
  );
}

const entrypoint = { uri: text, sha256: sha256.optional() };
const loader = {
  entrypoint: table(entrypoint),
  argv: list(text).optional(),
  argv_src_file: text.optional(),
  env: named(z.custom(isEnvironmentValue, 'expected a string, { value = "..." } or { passthrough = true }')).optional(),
  env_src_file: text.optional(),
  gid: integer.optional(),
  insecure__use_cmdline_argv: flag.optional(),
  insecure__use_host_env: flag.optional(),
  insecure__disable_aslr: flag.optional(),
  log_file: text.optional(),
  log_level: oneOf('none', 'error', 'warning', 'debug', 'trace', 'all').optional(),
  uid: integer.optional(),
};

const feature = oneOf('unspecified', 'disabled', 'required').optional();
const plainFeature = oneOf('disabled', 'required').optional();
const cpuFeatures = { avx: feature, avx512: feature, amx: feature, mpx: plainFeature, pkru: plainFeature };
const profile = {
  enable: oneOf('none', 'main', 'all').optional(),
  mode: oneOf('aex', 'ocall_inner', 'ocall_outer').optional(),
  with_stack: flag.optional(),
  frequency: integer.optional(),
};
const sealKey = { flags_mask: text.optional(), xfrm_mask: text.optional(), misc_mask: text.optional() };
const trustedFile = { uri: text, sha256: sha256.optional() };
const sgx = {
  allowed_files: list(text).optional(),
  cpu_features: table(cpuFeatures).optional(),
  debug: flag.optional(),
  edmm_enable: flag.optional(),
  enable_stats: flag.optional(),
  enclave_size: text.optional(),
  file_check_policy: oneOf('strict', 'allow_all_but_log').optional(),
  insecure__allow_memfaults_without_exinfo: flag.optional(),
  insecure__rpc_thread_num: integer.optional(),
  isvprodid: integer.optional(),
  isvsvn: integer.optional(),
  max_threads: integer.optional(),
  preheat_enclave: flag.optional(),
  profile: table(profile).optional(),
  remote_attestation: oneOf('none', 'dcap').optional(),
  seal_key: table(sealKey).optional(),
  trusted_files: list(table(trustedFile)).optional(),
  use_exinfo: flag.optional(),
  vtune_profile: flag.optional(),
};

const ioctl = { request_code: integer, struct: text.optional() };
const mockSyscall = { name: text, return: integer.optional() };
const sys = {
  allowed_ioctls: list(table(ioctl)).optional(),
  brk: table({ max_size: text.optional() }).optional(),
  disallow_subprocesses: flag.optional(),
  enable_extra_runtime_domain_names_conf: flag.optional(),
  enable_sigterm_injection: flag.optional(),
  experimental__enable_flock: flag.optional(),
  insecure__allow_eventfd: flag.optional(),
  /** Not looked into, as Gramine's own check. */
  ioctl_structs: named(z.unknown()).optional(),
  debug__mock_syscalls: list(table(mockSyscall)).optional(),
  stack: table({ size: text.optional() }).optional(),
  fds: table({ limit: integer.optional() }).optional(),
};

export const manifestSchema = table({
  fs: table(fs),
  libos: table(libos),
  loader: table(loader),
  sgx: table(sgx).optional(),
  sys: table(sys).optional(),
});

/** The keys that are known where a path leads; of a mount those of its type. */
export function knownKeys(manifest: ManifestTable, path: PropertyKey[]): string[] {
  const place = path.map((part) => (typeof part === 'number' ? '[]' : String(part))).join('.');
  if (place === 'fs.mounts.[]' || place === 'fs.root') {
    let value: unknown = manifest;
    for (const key of path) value = (value as Record<PropertyKey, unknown>)[key];
    const type = (value as ManifestTable).type ?? 'chroot';
    const shape = MOUNTS[type as keyof typeof MOUNTS] ?? MOUNTS.chroot;
    return [...Object.keys(shape), ...(place === 'fs.root' ? [] : ['path'])];
  }
  return Object.keys(SHAPES[place] ?? SHAPES['']);
}

const SHAPES: Record<string, object> & { '': object } = {
  '': { fs, libos, loader, sgx, sys },
  fs,
  libos,
  loader,
  'loader.entrypoint': entrypoint,
  sgx,
  'sgx.cpu_features': cpuFeatures,
  'sgx.profile': profile,
  'sgx.seal_key': sealKey,
  'sgx.trusted_files.[]': trustedFile,
  sys,
  'sys.brk': { max_size: null },
  'sys.stack': { size: null },
  'sys.fds': { limit: null },
  'sys.allowed_ioctls.[]': ioctl,
  'sys.debug__mock_syscalls.[]': mockSyscall,
};

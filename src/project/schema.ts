import * as z from 'zod';

/** Tables of enclave.toml that `build` knows; the keys of each are also what "did you mean" chooses from. */
const model = {
  path: z.string().min(1),
  owner: z.string().min(1),
};

const noNul = z.string().regex(/^[^\0]*$/, 'expected no NUL');
const absolutePath = noNul.startsWith('/');
/** The model is mounted there: no other spelling of "/", and nowhere in what the enclave mounts itself. */
const modelPath = absolutePath
  .refine((path) => {
    const parts = path.replace(/\/+$/, '').split('/').slice(1);
    return parts.length > 0 && parts.every((part) => part !== '' && part !== '.' && part !== '..');
  }, 'expected a directory below /, without "." and ".."')
  .refine((path) => !/^\/(dev|proc|sys)(\/|$)/.test(path), 'expected a directory outside of /dev, /proc and /sys');
const include = { from: z.string().min(1), to: absolutePath };

const runtime = {
  kind: z.enum(['onnx', 'command']).default('onnx'),
  /** Instead of the image's entrypoint and command, both. */
  command: z.array(noNul).min(1).optional(),
  /** Over the image's environment. */
  env: z.record(z.string().regex(/^[^=\0]+$/, 'expected a name without "="'), noNul).optional(),
  workdir: absolutePath.optional(),
  /** As a Dockerfile's USER: "name", "uid", "name:group", "uid:gid". */
  user: z.string().min(1).optional(),
  /** The program serves HTTP on this port of its loopback. */
  port: z.int().min(1).max(65535).optional(),
  /** Path that answers 200 once the program is ready; by default it is ready when its port takes connections. */
  ready: absolutePath.optional(),
  start_timeout: z.int().min(1).max(3600).optional(),
  /** Where the program finds the opened model. */
  model: modelPath.optional(),
  include: z.array(z.strictObject(include)).optional(),
};
/** What says something to a command only. */
const COMMAND_KEYS = [
  'command',
  'env',
  'workdir',
  'user',
  'port',
  'ready',
  'start_timeout',
  'model',
  'include',
] as const;

const base = { image: z.string().min(1).optional() };

const kernelFile = {
  file: z.string().min(1),
  cmdline: noNul.optional(),
  /** Kernel modules to load, in this order (AWS's kernel has its NSM driver as one). */
  modules: z.array(z.string().min(1)).optional(),
};

const nitro = {
  cpus: z.int().min(1).max(4096).default(2),
  memory_mib: z.int().min(64).max(16_777_216).default(1024),
  kernel: z.union([z.enum(['debian', 'small']), z.strictObject(kernelFile)]).default('debian'),
  sign: z.strictObject({ cert: z.string().min(1), key: z.string().min(1) }).optional(),
};

const uint16 = z.int().min(0).max(0xffff);
/** "4G" in bytes. */
export const parseEnclaveSize = (size: string): bigint =>
  BigInt(size.slice(0, -1)) << { K: 10n, M: 20n, G: 30n }[size.slice(-1) as 'K' | 'M' | 'G'];

/** A key file with an optional file that holds its passphrase, or a command that signs and the public key it signs for. */
const gramineSign = {
  key: z.string().min(1).optional(),
  passphrase: z.string().min(1).optional(),
  signer: z.string().min(1).optional(),
  public_key: z.string().min(1).optional(),
};

const gramine = {
  /** Where Gramine's two measured libraries are taken from: "installed", or a directory or a Gramine package (.deb). */
  from: z.string().min(1).default('installed'),
  enclave_size: z
    .string()
    .regex(/^[1-9][0-9]{0,6}[KMG]$/, { error: 'expected a size like "4G"', abort: true })
    .refine((size) => {
      const bytes = parseEnclaveSize(size);
      return (bytes & (bytes - 1n)) === 0n;
    }, 'expected a power of two, such as "4G": SGX has no other sizes')
    .default('4G'),
  max_threads: z.int().min(1).max(4096).default(32),
  /** A debug enclave's memory is the host's to read. */
  debug: z.boolean().default(false),
  /** Memory and threads are added while it runs; needs SGX2. */
  edmm: z.boolean().default(false),
  isvprodid: uint16.default(0),
  isvsvn: uint16.default(0),
  sign: z
    .strictObject(gramineSign)
    .refine(
      ({ key, passphrase, signer, public_key }) =>
        key === undefined
          ? signer !== undefined && public_key !== undefined && passphrase === undefined
          : signer === undefined && public_key === undefined,
      'expected { key = "sgx.pem" }, or { signer = "command", public_key = "sgx.pub" }',
    )
    .optional(),
};
export type GramineConfig = NonNullable<ProjectConfig['gramine']>;
/** [gramine] with its defaults, where enclave.toml has no such table. */
export const gramineDefaults = (): GramineConfig => z.strictObject(gramine).parse({});

const root = {
  name: z
    .string()
    .max(64)
    .regex(/^[a-z0-9][a-z0-9-]*$/, 'expected lower-case letters, digits and hyphens'),
  version: z.string().min(1).max(64),
  policy_version: z.string().min(1).max(64).optional(),
  targets: z
    .array(z.enum(['nitro', 'gramine']))
    .min(1)
    .refine((targets) => new Set(targets).size === targets.length, 'names a target twice')
    .default(['nitro']),
  model: z.strictObject(model),
  runtime: z.strictObject(runtime).default({ kind: 'onnx' }),
  base: z.strictObject(base).optional(),
  nitro: z.strictObject(nitro).default({ cpus: 2, memory_mib: 1024, kernel: 'debian' }),
  gramine: z.strictObject(gramine).optional(),
};

/** enclave.toml (cli.md, "enclave.toml"), with its defaults. */
export const projectSchema = z.strictObject(root).superRefine(({ runtime, base }, issues) => {
  const wrong = (path: string[], message: string) => issues.addIssue({ code: 'custom', path, message });
  if (runtime.kind === 'onnx') {
    const key = COMMAND_KEYS.find((name) => runtime[name] !== undefined);
    if (key !== undefined)
      wrong(['runtime', key], 'expected with kind = "command" only: the "onnx" runtime serves by itself');
    if (base?.image !== undefined) {
      wrong(['base', 'image'], 'expected with runtime.kind = "command" only: the "onnx" runtime brings its own base');
    }
  } else if (runtime.command === undefined && base?.image === undefined) {
    wrong(['runtime', 'command'], 'expected a command, or a base.image that has one');
  }
});
export type ProjectConfig = z.infer<typeof projectSchema>;

const keysOf: Record<string, string[]> = {
  '': Object.keys(root),
  model: Object.keys(model),
  runtime: Object.keys(runtime),
  'runtime.include': Object.keys(include),
  base: Object.keys(base),
  nitro: Object.keys(nitro),
  'nitro.kernel': Object.keys(kernelFile),
  'nitro.sign': ['cert', 'key'],
  gramine: Object.keys(gramine),
  'gramine.sign': Object.keys(gramineSign),
};

/** The keys that a table may have; `path` without array indices. */
export const knownKeys = (path: PropertyKey[]): string[] =>
  keysOf[path.filter((p) => typeof p === 'string').join('.')] ?? [];

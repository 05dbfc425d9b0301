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

const gramine = {
  enclave_size: z
    .string()
    .regex(/^[1-9][0-9]*[KMG]$/, 'expected a size like "4G"')
    .optional(),
  max_threads: z.int().min(1).optional(),
  debug: z.boolean().optional(),
  sign: z.union([z.strictObject({ key: z.string().min(1) }), z.strictObject({ signer: z.string().min(1) })]).optional(),
};

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
  'gramine.sign': ['key', 'signer'],
};

/** The keys that a table may have; `path` without array indices. */
export const knownKeys = (path: PropertyKey[]): string[] =>
  keysOf[path.filter((p) => typeof p === 'string').join('.')] ?? [];

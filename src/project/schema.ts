import { z } from 'zod';

/** Tables of enclave.toml that `build` knows; the keys of each are also what "did you mean" chooses from. */
const model = {
  path: z.string().min(1),
  owner: z.string().min(1),
};

const runtime = {
  kind: z.enum(['onnx', 'command']).default('onnx'),
  command: z.array(z.string()).min(1).optional(),
  include: z.array(z.strictObject({ from: z.string().min(1), to: z.string().startsWith('/') })).optional(),
};

const base = { image: z.string().min(1).optional() };

const nitro = {
  cpus: z.int().min(1).max(4096).default(2),
  memory_mib: z.int().min(64).max(16_777_216).default(1024),
  kernel: z
    .union([z.enum(['debian', 'small']), z.strictObject({ file: z.string().min(1), cmdline: z.string().optional() })])
    .default('debian'),
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
export const projectSchema = z.strictObject(root);
export type ProjectConfig = z.infer<typeof projectSchema>;

const keysOf: Record<string, string[]> = {
  '': Object.keys(root),
  model: Object.keys(model),
  runtime: Object.keys(runtime),
  'runtime.include': ['from', 'to'],
  base: Object.keys(base),
  nitro: Object.keys(nitro),
  'nitro.kernel': ['file', 'cmdline'],
  'nitro.sign': ['cert', 'key'],
  gramine: Object.keys(gramine),
  'gramine.sign': ['key', 'signer'],
};

/** The keys that a table may have; `path` without array indices. */
export const knownKeys = (path: PropertyKey[]): string[] =>
  keysOf[path.filter((p) => typeof p === 'string').join('.')] ?? [];

import * as z from 'zod';
import { usageError } from './errors.ts';
import { MEASURED_CONFIG_PATH } from './layout.ts';

const absolutePath = z.string().regex(/^\/[^\0]*$/, 'expected an absolute path');
const id = z.int().min(0).max(0xfffffffe);

/** Any program, served through the agent. Paths are those that the program sees: its root is COMMAND_ROOT of the image. */
const command = z.strictObject({
  kind: z.literal('command'),
  argv: z.array(z.string().regex(/^[^\0]*$/)).min(1),
  /** The whole environment: "NAME=value". */
  env: z.array(z.string().regex(/^[^=\0]+=[^\0]*$/)),
  cwd: absolutePath,
  user: z.strictObject({ uid: id, gid: id, groups: z.array(id).max(64) }),
  /** The opened model is mounted here, read-only. */
  model: absolutePath,
  /** The program serves HTTP on this port of its loopback. */
  port: z.int().min(1).max(65535),
  /** Path that answers 200 once the program is ready; null: it is ready when its port takes connections. */
  ready: absolutePath.nullable(),
  /** Seconds from start to readiness. */
  startTimeout: z.int().min(1).max(3600),
});
export type CommandRuntime = z.infer<typeof command>;

const schema = z.strictObject({
  /** Version of this file's shape. */
  version: z.literal(1),
  project: z.string().regex(/^[a-z0-9][a-z0-9-]*$/),
  projectVersion: z.string().min(1),
  /** Goes into receipts. */
  policyVersion: z.string().min(1),
  model: z.strictObject({
    /** Model digest, hex SHA-256 (sealed-model.md, "Model digest"). */
    digest: z.string().regex(/^[0-9a-f]{64}$/),
    /** The owner's raw Ed25519 public key, hex. The enclave opens only what this owner signed. */
    owner: z.string().regex(/^[0-9a-f]{64}$/),
  }),
  runtime: z.discriminatedUnion('kind', [z.strictObject({ kind: z.literal('onnx') }), command]),
});

/** `/etc/atoma-tee/enclave.json`: what the enclave program knows because it was measured. */
export type MeasuredConfig = z.infer<typeof schema>;

/** Canonical bytes: sorted keys would be JCS, but the key order of the schema is fixed, so this is deterministic too. */
export const encodeMeasuredConfig = (config: MeasuredConfig): Buffer =>
  Buffer.from(`${JSON.stringify(schema.parse(config), null, 2)}\n`);

/** Throws `ERR_ENCLAVE_CONFIG` (exit 2). */
export function parseMeasuredConfig(bytes: Uint8Array): MeasuredConfig {
  try {
    return schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (cause) {
    throw usageError(
      'ERR_ENCLAVE_CONFIG',
      `/${MEASURED_CONFIG_PATH} of the image is not a configuration of this toolkit`,
      { cause },
    );
  }
}

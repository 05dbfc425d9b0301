import { z } from 'zod';
import { usageError } from './errors.ts';
import { MEASURED_CONFIG_PATH } from './layout.ts';

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
  runtime: z.strictObject({ kind: z.literal('onnx') }),
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

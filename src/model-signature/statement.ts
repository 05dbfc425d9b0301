import * as z from 'zod';
import { hex, sha256 } from '../core/bytes.ts';
import { usageError } from '../core/errors.ts';
import { comparePaths } from '../model/paths.ts';

/** OpenSSF Model Signing 1.0, section 5.1. */
export const PREDICATE_TYPE = 'https://model_signing/signature/v1.0';
/** Of version 0.2 of its reference implementation; deprecated. */
const OLD_PREDICATE_TYPE = 'https://model_signing/Digests/v0.1';

const name = z.string().min(1).max(8192);
const digest = z.string().regex(/^([0-9a-f]{2}){1,64}$/);
/** "sha256", "blake2b", "blake3"; the reference implementation has "sha256-sharded-1000000000" of a shard. */
const algorithm = z.string().min(1).max(64);

const serialization = z.discriminatedUnion('method', [
  z.object({
    method: z.literal('files'),
    hash_type: algorithm,
    allow_symlinks: z.boolean(),
    ignore_paths: z.array(name).max(100_000).optional(),
  }),
  z.object({
    method: z.literal('shards'),
    hash_type: algorithm,
    shard_size: z.int().min(1),
    allow_symlinks: z.boolean(),
    ignore_paths: z.array(name).max(100_000).optional(),
  }),
]);

const schema = z.object({
  _type: z.literal('https://in-toto.io/Statement/v1'),
  subject: z.array(z.object({ name: z.string().min(1), digest: z.object({ sha256: digest.length(64) }) })).length(1),
  predicateType: z.literal(PREDICATE_TYPE),
  predicate: z.object({
    serialization,
    resources: z.array(z.object({ name, digest, algorithm })).min(1).max(1_000_000),
  }),
});

/** What a model's signature is over: an in-toto Statement with the predicate of OpenSSF Model Signing 1.0 (section 5). */
export type ModelStatement = z.infer<typeof schema>;
export type Serialization = z.infer<typeof serialization>;

/** A file of a model by its path in it, "/" between its parts; SHA-256 in hex. */
export interface SignedFile {
  name: string;
  sha256: string;
}

/**
 * The statement over a model's files: method "files", SHA-256, no symbolic links, sorted by code point (section 5.2.1). `model` is the
 * name of the file or directory. The same model gives the same bytes.
 */
export function encodeModelStatement(model: string, files: SignedFile[], ignored: string[]): Buffer {
  const sorted = [...files].sort((a, b) => comparePaths(a.name, b.name));
  const resources = sorted.map((file) => ({ name: file.name, algorithm: 'sha256', digest: file.sha256 }));
  const statement: ModelStatement = {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: model, digest: { sha256: rootDigest(resources) } }],
    predicateType: PREDICATE_TYPE,
    predicate: {
      serialization: {
        method: 'files',
        hash_type: 'sha256',
        allow_symlinks: false,
        ignore_paths: [...ignored].sort(comparePaths),
      },
      resources,
    },
  };
  return Buffer.from(JSON.stringify(schema.parse(statement)));
}

/** SHA-256 over all digests, in the order in which they are listed (section 6.5.1). Hex. */
export const rootDigest = (resources: { digest: string }[]): string =>
  hex(sha256(...resources.map(({ digest }) => Buffer.from(digest, 'hex'))));

/**
 * Reads the payload of a model's signature. Unknown fields are let through (section 5.2.1). Throws `ERR_MODEL_SIGNATURE_MALFORMED`;
 * `ERR_MODEL_SIGNATURE_UNSUPPORTED` for the format of version 0.2 (exit 2).
 */
export function parseModelStatement(payload: Uint8Array): ModelStatement {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload));
  } catch (cause) {
    throw malformed('not JSON in UTF-8', cause);
  }
  if ((json as { predicateType?: unknown } | null)?.predicateType === OLD_PREDICATE_TYPE) {
    throw usageError(
      'ERR_MODEL_SIGNATURE_UNSUPPORTED',
      `expected a signature of OpenSSF Model Signing 1.0, found one of its draft 0.2 (${OLD_PREDICATE_TYPE})`,
      { hint: 'sign the model again' },
    );
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw malformed(`${issue?.path.join('.') || 'the whole'}: ${issue?.message.slice(0, 200)}`, parsed.error);
}

const malformed = (why: string, cause: unknown) =>
  usageError(
    'ERR_MODEL_SIGNATURE_MALFORMED',
    `what was signed is not a statement of OpenSSF Model Signing 1.0: ${why}`,
    { cause },
  );

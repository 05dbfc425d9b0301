import * as z from 'zod';
import { usageError } from '../core/errors.ts';

export const MANIFEST_FILE = 'build.intoto.json';
/** Names of this toolkit's kind of build and of itself as a builder; they are not addresses. */
export const BUILD_TYPE = 'urn:atoma-tee:build:v1';
export const BUILDER_ID = 'urn:atoma-tee:cli';

/** Lower-case hex by algorithm name (in-toto DigestSet). */
const digestSet = z.record(z.string(), z.string().regex(/^[0-9a-f]+$/));
const descriptor = z.object({
  name: z.string().optional(),
  uri: z.string().optional(),
  digest: digestSet.optional(),
  mediaType: z.string().optional(),
});

/** Whoever looks a name up finds one digest: a second one would be compared with nothing. */
const distinct = (all: { name?: string | undefined }[]): boolean => {
  const names = all.flatMap(({ name }) => name ?? []);
  return new Set(names).size === names.length;
};

/** What `run` and a person want to know of a Nitro image before they start it. */
const nitro = z.object({
  kernel: z.object({ kind: z.enum(['debian', 'small', 'file']), version: z.string(), sha256: z.string() }),
  /** Whether a real Nitro host is expected to boot it; null: nobody knows. */
  expectedOnNitro: z.boolean().nullable(),
});

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** The same of a Gramine image. */
const gramine = z.object({
  /** "4G". */
  enclaveSize: z.string(),
  maxThreads: z.int(),
  edmm: z.boolean(),
  /** The host can read the memory of a debug enclave. */
  debug: z.boolean(),
  /** Where Gramine says it. */
  version: z.string().optional(),
  libpal: sha256,
  libsysdb: sha256,
});

const schema = z.object({
  _type: z.literal('https://in-toto.io/Statement/v1'),
  subject: z
    .array(z.object({ name: z.string().min(1), digest: digestSet }))
    .min(1)
    .refine(distinct),
  predicateType: z.literal('https://slsa.dev/provenance/v1'),
  predicate: z.object({
    buildDefinition: z.object({
      buildType: z.literal(BUILD_TYPE),
      externalParameters: z.object({
        /** enclave.toml with its defaults. */
        project: z.looseObject({ name: z.string() }),
        model: z.object({
          digest: digestSet.refine(({ sha256 }) => sha256?.length === 64),
          /** Whether the bill of materials describes it (`build --disclose-model`). */
          disclosed: z.literal(true).optional(),
        }),
        /** The owner's raw Ed25519 public key, hex. */
        owner: z.string().regex(/^[0-9a-f]{64}$/),
      }),
      internalParameters: z.object({
        SOURCE_DATE_EPOCH: z.int(),
        toolkit: z.string(),
        nitro: nitro.optional(),
        gramine: gramine.optional(),
      }),
      resolvedDependencies: z.array(descriptor),
    }),
    runDetails: z.object({
      builder: z.object({ id: z.literal(BUILDER_ID), version: z.record(z.string(), z.string()) }),
      byproducts: z.array(descriptor).refine(distinct),
    }),
  }),
});

/** The build manifest: an in-toto Statement v1 with SLSA v1 provenance (build-manifest.md). */
export type Statement = z.infer<typeof schema>;
/** in-toto ResourceDescriptor. */
export type ResourceDescriptor = z.infer<typeof descriptor>;

export interface StatementFacts {
  subjects: { name: string; sha256: string; sha384: string }[];
  project: Statement['predicate']['buildDefinition']['externalParameters']['project'];
  /** Hex. */
  modelDigest: string;
  modelDisclosed?: boolean;
  owner: string;
  sourceDateEpoch: number;
  toolkit: string;
  nitro?: z.infer<typeof nitro> | undefined;
  gramine?: z.infer<typeof gramine> | undefined;
  dependencies: ResourceDescriptor[];
  byproducts: ResourceDescriptor[];
}

/** No time, no invocation id, no path of this machine: the same build gives the same bytes. */
export function encodeStatement(facts: StatementFacts): Buffer {
  const statement: Statement = {
    _type: 'https://in-toto.io/Statement/v1',
    subject: facts.subjects.map(({ name, sha256, sha384 }) => ({ name, digest: { sha256, sha384 } })),
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        buildType: BUILD_TYPE,
        externalParameters: {
          project: facts.project,
          model: { digest: { sha256: facts.modelDigest }, ...(facts.modelDisclosed ? { disclosed: true } : {}) },
          owner: facts.owner,
        },
        internalParameters: {
          SOURCE_DATE_EPOCH: facts.sourceDateEpoch,
          toolkit: facts.toolkit,
          ...(facts.nitro ? { nitro: facts.nitro } : {}),
          ...(facts.gramine ? { gramine: facts.gramine } : {}),
        },
        resolvedDependencies: facts.dependencies,
      },
      runDetails: {
        builder: { id: BUILDER_ID, version: { 'atoma-tee': facts.toolkit } },
        byproducts: facts.byproducts,
      },
    },
  };
  return Buffer.from(`${JSON.stringify(schema.parse(statement), null, 2)}\n`);
}

/** Deeper than any honest manifest; whoever walks through one recurses. */
const MAX_DEPTH = 32;
const isShallow = (value: unknown, left: number): boolean =>
  typeof value !== 'object' ||
  value === null ||
  (left > 0 && Object.values(value).every((item) => isShallow(item, left - 1)));

/** Unknown fields are let through, as in-toto demands. Throws `ERR_MANIFEST_MALFORMED` (exit 2). */
export function parseStatement(bytes: Uint8Array): Statement {
  try {
    const json: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (!isShallow(json, MAX_DEPTH)) throw new RangeError('nested too deeply');
    return schema.parse(json);
  } catch (cause) {
    throw usageError('ERR_MANIFEST_MALFORMED', `expected a build manifest of this toolkit (${MANIFEST_FILE})`, {
      cause,
    });
  }
}

import { readSmallFile } from '../core/files.ts';
import { MAX_BUNDLE, parseBundle } from '../manifest/bundle.ts';
import { parseStatement, type Statement } from '../manifest/statement.ts';
import { parseModelStatement } from '../model-signature/index.ts';

/** What a signature says of itself, unverified: whose it says it is, and what it is over. Throws the parsers' errors (exit 2). */
export async function inspectBundle(
  path: string,
  kind: 'manifest-signature' | 'model-signature',
  describe: (statement: Statement) => object,
): Promise<Record<string, unknown>> {
  const { envelope, method, hint, logEntries } = parseBundle(
    await readSmallFile(path, 'signature', MAX_BUNDLE),
    'signature',
  );
  const head = {
    ...{ kind, verified: false, method },
    ...(hint === undefined ? {} : { key: hint }),
    ...{ logEntries, payloadType: envelope.payloadType },
  };
  if (kind === 'manifest-signature') return { ...head, manifest: describe(parseStatement(envelope.payload)) };
  const { subject, predicate } = parseModelStatement(envelope.payload);
  const { ignore_paths, ...serialization } = predicate.serialization;
  return {
    ...head,
    model: subject[0]?.name,
    rootDigest: subject[0]?.digest.sha256,
    serialization: { ...serialization, ignored: ignore_paths ?? [] },
    files: predicate.resources.map(({ name, digest }) => ({ name, digest })),
  };
}

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseBundle } from '../../../src/manifest/bundle.ts';
import { parseModelStatement } from '../../../src/model-signature/index.ts';
import { rootDigest } from '../../../src/model-signature/statement.ts';
import { haveVectors, vectors } from '../vectors.ts';

const list = (kind: string): [string, string][] =>
  haveVectors
    ? readdirSync(vectors('oms/test-vectors/v1.0', kind)).map((name) => [
        name,
        vectors('oms/test-vectors/v1.0', kind, name),
      ])
    : [];
const read = (path: string) => parseBundle(readFileSync(path), 'signature');

describe.runIf(haveVectors)("the specification's own bundles", () => {
  test('there are some', () => {
    expect(['valid', 'invalid', 'invalid-payload'].map((kind) => list(kind).length)).toEqual([3, 4, 1]);
  });

  test.each(list('valid'))('%s is read, and says what it is over', (name, path) => {
    const { method, envelope } = read(path);
    expect(method).toBe(name.split('.')[0]);
    const { subject, predicate } = parseModelStatement(envelope.payload);
    expect(predicate.resources.map((resource) => resource.name)).toEqual(['signme-1', 'signme-2']);
    // Whoever edited the vector for Sigstore left its digest alone.
    if (method !== 'sigstore') expect(rootDigest(predicate.resources)).toBe(subject[0]?.digest.sha256);
  });

  test.each(list('invalid'))('%s is refused', (_, path) => {
    expect(() => read(path)).toThrow(expect.objectContaining({ code: 'ERR_BUNDLE_MALFORMED', exitCode: 2 }));
  });

  test.each(list('invalid-payload'))('%s is a bundle, of something else', (_, path) => {
    expect(() => parseModelStatement(read(path).envelope.payload)).toThrow(
      expect.objectContaining({ code: 'ERR_MODEL_SIGNATURE_MALFORMED', exitCode: 2 }),
    );
  });
});

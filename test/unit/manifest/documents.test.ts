import { expect, test } from 'vitest';
import {
  encodeMeasurements,
  type Measurements,
  measuredFiles,
  parseMeasurements,
} from '../../../src/manifest/measurements.ts';
import { encodeStatement, parseStatement, type StatementFacts } from '../../../src/manifest/statement.ts';

const facts: StatementFacts = {
  subjects: [{ name: 'a.eif', sha256: 'a'.repeat(64), sha384: 'b'.repeat(96) }],
  project: { name: 'a', version: '1' },
  modelDigest: 'c'.repeat(64),
  owner: 'd'.repeat(64),
  sourceDateEpoch: 1,
  toolkit: '0.1.0',
  nitro: { kernel: { kind: 'debian', version: '6.12.95', sha256: 'a1'.repeat(32) }, expectedOnNitro: false },
  dependencies: [{ uri: 'pkg:npm/x@1', digest: { sha512: 'ee' } }],
  byproducts: [{ name: 'measurements.json', digest: { sha256: 'ff' } }],
};

const measurements: Measurements = {
  version: 1,
  images: [
    {
      target: 'nitro',
      file: 'a.eif',
      size: 1,
      sha256: 'a'.repeat(64),
      measurement: { tee: 'nitro', pcr0: '0'.repeat(96), pcr1: '1'.repeat(96), pcr2: '2'.repeat(96) },
      parts: [
        { name: 'ramdisk0', size: 1, sha384: '3'.repeat(96), files: [{ path: 'init', type: 'file', mode: '0755' }] },
      ],
    },
  ],
};

test('the build manifest is an in-toto statement with SLSA provenance, and reads back', () => {
  const bytes = encodeStatement(facts);
  expect(encodeStatement(structuredClone(facts))).toEqual(bytes);
  const statement = parseStatement(bytes);
  expect(statement._type).toBe('https://in-toto.io/Statement/v1');
  expect(statement.predicateType).toBe('https://slsa.dev/provenance/v1');
  expect(statement.subject).toEqual([{ name: 'a.eif', digest: { sha256: 'a'.repeat(64), sha384: 'b'.repeat(96) } }]);
});

test('an in-toto statement of something else is refused, unknown fields are not', () => {
  const statement = JSON.parse(encodeStatement(facts).toString());
  const refuse = (change: object) =>
    expect(() => parseStatement(Buffer.from(JSON.stringify({ ...statement, ...change })))).toThrow(
      expect.objectContaining({ code: 'ERR_MANIFEST_MALFORMED', exitCode: 2 }),
    );
  refuse({ predicateType: 'https://spdx.dev/Document' });
  refuse({ subject: [] });
  refuse({ subject: [{ name: 'a.eif', digest: { sha256: '../../x' } }] });
  expect(() => parseStatement(Buffer.from('[]'))).toThrow();
  expect(parseStatement(Buffer.from(JSON.stringify({ ...statement, later: 1 }))).subject).toHaveLength(1);
});

test('a manifest nested twenty thousand deep is malformed, not a bug', () => {
  const deep = `{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
  const bytes = encodeStatement({ ...facts, project: { name: 'x', a: 'HERE' } }).toString();
  expect(() => parseStatement(Buffer.from(bytes.replace('"HERE"', deep)))).toThrow(
    expect.objectContaining({ code: 'ERR_MANIFEST_MALFORMED', exitCode: 2 }),
  );
});

test('measurements read back, and are refused cut off anywhere', () => {
  const bytes = encodeMeasurements(measurements);
  expect(parseMeasurements(bytes)).toEqual(measurements);
  for (let length = 0; length < bytes.length - 1; length++) {
    expect(() => parseMeasurements(bytes.subarray(0, length))).toThrow(
      expect.objectContaining({ code: 'ERR_MEASUREMENTS_MALFORMED' }),
    );
  }
});

test('a tree is listed by path in bytewise order, directories without size', () => {
  const entries = [
    { path: 'b', type: 'file' as const, mode: 0o644, size: 3, sha256: 'aa' },
    { path: 'é', type: 'symlink' as const, mode: 0o777, size: 0, target: 'b' },
    { path: 'a', type: 'dir' as const, mode: 0o755, size: 0 },
  ];
  expect(measuredFiles(entries)).toEqual([
    { path: 'a', type: 'dir', mode: '0755' },
    { path: 'b', type: 'file', mode: '0644', size: 3, sha256: 'aa' },
    { path: 'é', type: 'symlink', mode: '0777', target: 'b' },
  ]);
});

import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { encodeEvidenceFile, parseEvidenceFile } from '../../src/attest/index.ts';
import { decodeCbor, encodeCbor } from '../../src/core/cbor.ts';
import { parseSign1 } from '../../src/core/cose.ts';
import { encodeMeasuredConfig, type MeasuredConfig, parseMeasuredConfig } from '../../src/core/measured-config.ts';
import { encodeLock } from '../../src/image/lock-encode.ts';
import { parseLock } from '../../src/image/lock-file.ts';
import { PREFIX_LENGTH, parseHeader, verifyHeaderSignature } from '../../src/seal/header.ts';
import { exampleHeader, newOwner, xwing } from '../../test/unit/seal/fixture.ts';
import { receiptSeeds } from './receipt-targets.ts';
import { must, type Seed, type Target } from './target.ts';

const REPO = resolve(import.meta.dirname, '../..');
const bytes = (length: number, value: number) => Buffer.alloc(length, value);

const CBOR = new Map<unknown, unknown>([
  [1, ['a', 'b', [1, [2, [3]]]]],
  [-70000, bytes(300, 1)],
  ['text', { true: true, false: false, null: null, number: 2 ** 40, float: 1.5 }],
]);

const cborSeeds = (): Seed[] =>
  (['deterministic', 'any'] as const).map((form) => ({
    name: form,
    bytes: Buffer.from(encodeCbor(CBOR)),
    accepts: (input) => {
      const value = decodeCbor(input, { what: 'input', maxBytes: 1 << 16, form });
      if (form === 'deterministic') must(Buffer.from(encodeCbor(value)).equals(input), 'one encoding for a value');
      return true;
    },
  }));

function coseSeeds(): Seed[] {
  const [message] = receiptSeeds();
  return (['deterministic', 'any'] as const).map((form) => ({
    name: form,
    bytes: (message as Seed).bytes,
    accepts: (input) =>
      parseSign1(input, { what: 'input', maxBytes: 1 << 16, tag: 'optional', form }).payload.length > 0,
  }));
}

async function headerSeeds(): Promise<Seed[]> {
  const owner = newOwner();
  const { bytes: header } = await exampleHeader(owner, xwing(), xwing(), bytes(32, 3));
  const padded = Buffer.alloc(parseHeader(header).payloadOffset);
  header.copy(padded);
  const accepts = (input: Buffer) => {
    verifyHeaderSignature(parseHeader(input), owner.publicRaw);
    return true;
  };
  // With padding and without it is the same header.
  const means = (input: Buffer) => input.equals(header) || input.equals(padded);
  return [
    { name: 'header', bytes: header, accepts, means },
    { name: 'header with padding', bytes: padded, accepts, means },
  ];
}

/** What is inside of a header, as its owner could have signed it. */
async function policySeeds(): Promise<Seed[]> {
  const [seed] = await headerSeeds();
  const { bytes: header } = seed as Seed;
  const { payload } = parseSign1(header.subarray(PREFIX_LENGTH), { what: 'seed', maxBytes: 1 << 20, tag: 'required' });
  const at = header.indexOf(payload);
  // The same length leaves the envelope as it is.
  return [
    {
      name: 'payload',
      bytes: Buffer.from(payload),
      accepts: (input) => {
        const whole = Buffer.from(header);
        input.copy(whole, at, 0, payload.length);
        return parseHeader(whole).bytes.length > 0;
      },
    },
  ];
}

const CONFIG: MeasuredConfig = {
  version: 1,
  project: 'digits',
  projectVersion: '1.0.0',
  policyVersion: '1',
  model: { digest: 'ab'.repeat(32), owner: 'cd'.repeat(32) },
  runtime: { kind: 'onnx' },
};

const configSeeds = (): Seed[] => [
  {
    name: 'onnx',
    bytes: encodeMeasuredConfig(CONFIG),
    accepts: (input) => {
      const read = parseMeasuredConfig(input);
      const again = parseMeasuredConfig(encodeMeasuredConfig(read));
      must(encodeMeasuredConfig(again).equals(encodeMeasuredConfig(read)), 'a configuration is read as it is written');
      return true;
    },
  },
];

function lockSeeds(): Seed[] {
  const text = readFileSync(join(REPO, 'examples/digits/atoma-tee.lock'));
  // All of it takes milliseconds a time: the head and a few entries of each kind do.
  const parsed = parseLock(text.toString('utf8'), 'lock');
  const small = { ...parsed, npm: parsed.npm.slice(0, 2), deb: parsed.deb.slice(0, 2) };
  return [
    {
      name: 'small',
      bytes: Buffer.from(encodeLock(small)),
      accepts: (input) => {
        const read = parseLock(input.toString('utf8'), 'lock');
        must(encodeLock(parseLock(encodeLock(read), 'again')) === encodeLock(read), 'a lock is read as it is written');
        return true;
      },
    },
  ];
}

const evidenceFileSeeds = (): Seed[] => [
  {
    name: 'file',
    bytes: encodeEvidenceFile({
      tee: 'tdx',
      evidence: bytes(200, 1),
      ed25519: bytes(32, 2),
      keyConfig: bytes(100, 3),
      nonce: bytes(16, 4),
    }),
    accepts: (input) => parseEvidenceFile(input).ed25519.length === 32,
  },
];

export const formatTargets: Target[] = [
  { name: 'cbor', genuine: false, share: 1, seeds: async () => cborSeeds() },
  { name: 'cose', genuine: false, share: 1, seeds: async () => coseSeeds() },
  { name: 'sealed-header', genuine: true, share: 0.5, seeds: headerSeeds },
  { name: 'sealed-payload', genuine: false, share: 0.5, seeds: policySeeds },
  { name: 'measured-config', genuine: false, share: 1, seeds: async () => configSeeds() },
  { name: 'lock', genuine: false, share: 0.15, seeds: async () => lockSeeds() },
  { name: 'evidence-file', genuine: false, share: 1, seeds: async () => evidenceFileSeeds() },
];

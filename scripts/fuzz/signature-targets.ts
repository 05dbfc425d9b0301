import { generateKeyPairSync } from 'node:crypto';
import { AtomaError } from '../../src/core/errors.ts';
import { cosignHint, parseBundle, type SignedBundle, signBundle } from '../../src/manifest/bundle.ts';
import { IN_TOTO_TYPE, verifyEnvelope } from '../../src/manifest/dsse.ts';
import { parseModelStatement } from '../../src/model-signature/index.ts';
import { encodeModelStatement, rootDigest } from '../../src/model-signature/statement.ts';
import { must, type Target } from './target.ts';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const statement = encodeModelStatement(
  'model',
  ['config.json', 'sub/weights'].map((name, i) => ({ name, sha256: `0${i}`.repeat(32) })),
  ['.git', 'model.sig'],
);

const read = (input: Buffer): SignedBundle | null => {
  try {
    return parseBundle(input, 'signature');
  } catch (error) {
    if (error instanceof AtomaError) return null;
    throw error;
  }
};

/** Signatures of build manifests and of models: the envelope, and what is in it. */
export const signatureTargets: Target[] = [
  {
    name: 'Sigstore bundle',
    genuine: true,
    share: 0.3,
    seeds: async () => [
      {
        name: 'a signed model',
        bytes: signBundle(statement, privateKey, cosignHint(publicKey)),
        accepts: (input) => {
          const bundle = read(input);
          return bundle?.method === 'key' && verifyEnvelope(bundle.envelope, publicKey);
        },
        // Space between fields and the names of the key are not signed, and nobody relies on them.
        means: (input) => {
          const { payload, payloadType } = read(input)?.envelope ?? {};
          return payload?.equals(statement) === true && payloadType === IN_TOTO_TYPE;
        },
      },
    ],
  },
  {
    name: 'statement of a model signature',
    genuine: false,
    share: 1,
    seeds: async () => [
      {
        name: 'two files',
        bytes: statement,
        accepts: (input) => {
          const { subject, predicate } = parseModelStatement(input);
          must(subject.length === 1 && predicate.resources.length > 0, 'one model, with files');
          must(/^[0-9a-f]{64}$/.test(rootDigest(predicate.resources)), 'digests are hex');
          return true;
        },
      },
    ],
  },
];

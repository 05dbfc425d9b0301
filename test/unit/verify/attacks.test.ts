import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import {
  createSimulatedAttester,
  createSimulatedRoot,
  encodeEvidenceFile,
  encodeKeyConfig,
  encodeReceipt,
  identityRequest,
} from '../../../src/attest/index.ts';
import { hex, sha256 } from '../../../src/core/bytes.ts';
import { parseStatement } from '../../../src/manifest/statement.ts';
import type { Policy } from '../../../src/seal/policy.ts';
import { type VerifyOptions, verify } from '../../../src/tasks/verify/index.ts';
import type { Kind } from '../../../src/tasks/verify/report.ts';
import { policyNames } from '../../../src/tasks/verify/sealed.ts';

const dir = mkdtempSync(join(tmpdir(), 'atoma-verify-attacks-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
const write = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(join(dir, name), bytes);
  return join(dir, name);
};

describe('what is asked for and looked at by nobody is not a pass', () => {
  const any = 'ab'.repeat(48);
  test.each<[Kind, Partial<VerifyOptions>]>([
    ['build-manifest', { expect: [`pcr0=${any}`] }],
    ['build-manifest', { owner: 'owner.pub' }],
    ['eif', { expect: [`pcr0=${any}`], owner: 'owner.pub' }],
    ['eif', { expect: [`pcr0=${any}`], nonce: '00'.repeat(16) }],
    ['sealed-model', { owner: 'owner.pub', expect: [`pcr0=${any}`] }],
    ['evidence', { expect: ['none'], maxAge: 1 }],
    ['evidence', { expect: ['none'], request: 'request.json' }],
    ['receipt', { publicKey: '00'.repeat(32), expect: [`pcr0=${any}`] }],
    ['receipt', { publicKey: '00'.repeat(32), evidence: 'evidence.json' }],
  ])('%s with %j', async (kind, flags) => {
    const options = { files: ['nothing'], kind, expect: [], allowSimulated: [], ...flags };
    await expect(verify(options)).rejects.toMatchObject({ code: 'ERR_USAGE', exitCode: 2 });
  });
});

describe('a receipt by --public-key', () => {
  const { publicKey: key, privateKey } = generateKeyPairSync('ed25519');
  const publicKey = hex(key.export({ format: 'der', type: 'spki' }).subarray(-32));
  const request = write('request', 'question');
  const response = write('response', 'answer');
  const other = write('other', 'something else');
  const register = Buffer.alloc(48, 1);
  const receipt = (securityMode: 'production' | 'evaluation') =>
    write(
      'receipt',
      encodeReceipt(
        {
          iss: 'x',
          iat: 1,
          cti: Buffer.alloc(16, 1),
          modelId: 'x',
          modelVersion: '1',
          modelHash: Buffer.alloc(32, 1),
          requestHash: sha256(Buffer.from('question')),
          responseHash: sha256(Buffer.from('answer')),
          attestationDocHash: Buffer.alloc(32, 1),
          measurements: { measurementType: 'nitro-pcr', pcr0: register, pcr1: register, pcr2: register },
          policyVersion: '1',
          sequenceNumber: 1,
          executionTimeMs: 1,
          memoryPeakMb: 1,
          securityMode,
        },
        privateKey,
      ),
    );
  const judge = (flags: Partial<VerifyOptions>, mode: 'production' | 'evaluation' = 'production') =>
    verify({ files: [receipt(mode)], kind: 'receipt', expect: [], allowSimulated: [], publicKey, ...flags });

  test('another request or response than the one that it is about', async () => {
    expect((await judge({ request, response })).verdict).toBe('pass');
    expect((await judge({ request: other, response })).verdict).toBe('fail');
    expect((await judge({ request, response: other })).verdict).toBe('fail');
  });

  test('one that says itself that no TEE in production made it is not shown as a real one', async () => {
    expect((await judge({})).simulated).toBe(false);
    expect((await judge({}, 'evaluation')).simulated).toBe(true);
  });
});

describe('a policy that lets in more than the image', () => {
  const measurement = { pcr0: '0a'.repeat(48), pcr1: '0b'.repeat(48), pcr2: '0c'.repeat(48), pcr8: '0d'.repeat(48) };
  const { pcr8, ...image } = measurement;
  const images = [{ tee: 'nitro' as const, ...measurement }];
  const root = `sha256:${'00'.repeat(32)}`;
  test.each<[string, Policy['any'], 'pass' | 'fail']>([
    ['this image', [{ tee: 'nitro', ...image }], 'pass'],
    ['this image, simulated', [{ tee: 'simulated', root, of: { tee: 'nitro', ...image } }], 'pass'],
    ['any image by its signer', [{ tee: 'nitro', pcr8 }], 'fail'],
    ['any image by its signer, simulated', [{ tee: 'simulated', root, of: { tee: 'nitro', pcr8 } }], 'fail'],
    [
      'a second image',
      [
        { tee: 'nitro', ...image },
        { tee: 'nitro', ...image, pcr0: '0e'.repeat(48) },
      ],
      'fail',
    ],
    ['an SGX enclave', [{ tee: 'sgx', mrsigner: '0f'.repeat(32), isvprodid: 0, min_isvsvn: 0 }], 'fail'],
  ])('%s: %#', (_, any, status) => {
    expect(policyNames({ any, project: 'x', model: '00'.repeat(32) }, images).status).toBe(status);
  });
});

describe('a policy for SGX that lets in more than the image', () => {
  const sgx = { tee: 'sgx' as const, mrenclave: '0a'.repeat(32), mrsigner: '0b'.repeat(32), isvprodid: 1, isvsvn: 2 };
  const { isvsvn: _, ...image } = sgx;
  const root = `sha256:${'00'.repeat(32)}`;
  const nitro = { tee: 'nitro' as const, pcr0: '0a'.repeat(48), pcr1: '0b'.repeat(48), pcr2: '0c'.repeat(48) };
  test.each<[string, Policy['any'], 'pass' | 'fail']>([
    ['this image', [{ ...image, min_isvsvn: 2 }], 'pass'],
    ['this image, simulated', [{ tee: 'simulated', root, of: { ...image, min_isvsvn: 2 } }], 'pass'],
    ['both images of the manifest', [nitro, { ...image, min_isvsvn: 2 }], 'pass'],
    ['any enclave by its signer', [{ ...image, mrenclave: undefined, min_isvsvn: 2 }], 'fail'],
    ['another enclave of that signer', [{ ...image, mrenclave: '0c'.repeat(32), min_isvsvn: 2 }], 'fail'],
    ['this one, signed by somebody else', [{ ...image, mrsigner: '0c'.repeat(32), min_isvsvn: 2 }], 'fail'],
    ['another product', [{ ...image, isvprodid: 0, min_isvsvn: 2 }], 'fail'],
    ['a version that the image has not', [{ ...image, min_isvsvn: 3 }], 'fail'],
  ])('%s', (_, any, status) => {
    expect(policyNames({ any, project: 'x', model: '00'.repeat(32) }, [nitro, sgx]).status).toBe(status);
  });

  test('an SGX enclave where the manifest has none', () => {
    const any = [{ ...image, min_isvsvn: 0 }];
    expect(policyNames({ any, project: 'x', model: '00'.repeat(32) }, [nitro]).status).toBe('fail');
  });
});

test('a manifest whose model digest is of a kind that nobody compares', () => {
  const manifest = {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: 'a.eif', digest: {} }],
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        buildType: 'urn:atoma-tee:build:v1',
        externalParameters: {
          project: { name: 'x' },
          model: { digest: { sha256: 'aa'.repeat(32) } },
          owner: '00'.repeat(32),
        },
        internalParameters: { SOURCE_DATE_EPOCH: 0, toolkit: '0' },
        resolvedDependencies: [],
      },
      runDetails: { builder: { id: 'urn:atoma-tee:cli', version: {} }, byproducts: [] },
    },
  };
  const parse = () => parseStatement(Buffer.from(JSON.stringify(manifest)));
  expect(parse().subject).toHaveLength(1);
  Object.assign(manifest.predicate.buildDefinition.externalParameters.model, { digest: { sha512: 'aa' } });
  expect(parse).toThrow(expect.objectContaining({ code: 'ERR_MANIFEST_MALFORMED' }));
});

describe('an evidence file', () => {
  test('that names another nonce than its evidence does not pass for fresh', async () => {
    const root = await createSimulatedRoot();
    const register = '01'.repeat(48);
    const attester = createSimulatedAttester(root, { tee: 'nitro', pcr0: register, pcr1: register, pcr2: register });
    const { publicKey } = generateKeyPairSync('ed25519');
    const identity = {
      ed25519: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32),
      keyConfig: encodeKeyConfig(Buffer.alloc(1216, 7)),
    };
    const nonce = Buffer.alloc(16, 1);
    const evidence = await attester.attest(identityRequest(identity, nonce));
    const verdict = async (declared: Uint8Array | null) => {
      const file = write('e.json', encodeEvidenceFile({ ...identity, tee: 'simulated', evidence, nonce: declared }));
      const options = { files: [file], expect: [`pcr0=${register}`], allowSimulated: [root.fingerprint] };
      const { results } = await verify(options);
      return results[0]?.checks.filter(({ status }) => status === 'fail').map(({ id }) => id);
    };
    expect(await verdict(nonce)).toEqual([]);
    expect(await verdict(Buffer.alloc(16, 9))).toEqual(['nonce.declared']);
    expect(await verdict(null)).toEqual(['nonce.declared']);
  });
});

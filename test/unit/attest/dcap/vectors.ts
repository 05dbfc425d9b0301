import { readFileSync } from 'node:fs';
import { importIntel } from '../../../../src/attest/dcap/import.ts';
import { verifyDcap } from '../../../../src/attest/dcap/verify.ts';
import { fromPem } from '../../../../src/attest/roots/pinned.ts';
import type { Endorsements, VerifyEvidenceOptions } from '../../../../src/attest/types.ts';
import { haveVectors, vectors } from '../../vectors.ts';

export { haveVectors } from '../../vectors.ts';

export const dcapFile = (name: string): Buffer => (haveVectors ? readFileSync(vectors('dcap', name)) : Buffer.alloc(0));
const NONE: Endorsements = { certificates: [], crls: [], tcbInfos: [], qeIdentities: [] };
const read = (name: string): Endorsements => (haveVectors ? importIntel(dcapFile(name)) : null) ?? NONE;

export interface Case {
  quote: Buffer;
  endorsements: Endorsements;
  at: Date;
}

/** A genuine SGX quote of version 3, and a genuine TDX 1.5 quote of version 5. */
export const SGX: Case = {
  quote: dcapFile('phala-sgx-quote.bin'),
  endorsements: read('phala-sgx-collateral.json'),
  at: new Date('2025-07-04T10:28:44Z'),
};
export const TDX: Case = {
  quote: dcapFile('google-tdx-v5.bin'),
  endorsements: read('google-tdx-v5-collateral.json'),
  at: new Date('2026-02-25T00:00:00Z'),
};

const sample = (name: string) => dcapFile(`intel-sgx-sample.${name}`);
const samplePem = (name: string) => fromPem(sample(name).toString('latin1'));

/** Intel's sample data: a made-up machine under a root of its own. */
export const SAMPLE: Case & { roots: Uint8Array[] } = {
  quote: sample('quote.dat'),
  endorsements: {
    certificates: ['pckCert.pem', 'pckSignChain.pem', 'tcbSignChain.pem'].flatMap(samplePem),
    crls: [sample('rootCaCrl.der'), sample('intermediateCaCrl.der')],
    tcbInfos: read('intel-sgx-sample.tcbInfo.json').tcbInfos,
    qeIdentities: read('intel-sgx-sample.qeIdentity.json').qeIdentities,
  },
  at: new Date('2020-01-01T00:00:00Z'),
  roots: samplePem('trustedRootCaCert.pem'),
};

/** The verifier's clock in these tests: long after every vector. */
export const NOW = new Date('2026-11-22T00:00:00Z');

export const check = ({ quote, endorsements, at }: Case, options: Partial<VerifyEvidenceOptions> = {}) =>
  verifyDcap(quote, { allowSimulated: [], now: NOW, at, endorsements, ...options });

/** The ids of the checks that failed. */
export const failed = (given: Case, options: Partial<VerifyEvidenceOptions> = {}): string[] =>
  check(given, options)
    .checks.filter(({ status }) => status === 'fail')
    .map(({ id }) => id);

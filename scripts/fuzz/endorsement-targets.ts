import { type Certificate, parseCertificate } from '../../src/attest/certificate.ts';
import { crlProblem, parseCrl } from '../../src/attest/crl.ts';
import { openCollateral } from '../../src/attest/dcap/collateral.ts';
import { verifyP256 } from '../../src/attest/dcap/ecdsa.ts';
import { importIntel } from '../../src/attest/dcap/import.ts';
import { parseQeIdentity } from '../../src/attest/dcap/qe-identity.ts';
import { parseTcbInfo } from '../../src/attest/dcap/tcb-info.ts';
import { parseEndorsements } from '../../src/attest/endorsements.ts';
import type { SignedJson } from '../../src/attest/types.ts';
import { rawCrl } from '../../test/unit/attest/certificates.ts';
import { AT, FakeIntel } from '../../test/unit/attest/dcap/fake-intel.ts';
import { ark, ask, keys, now, vek } from '../../test/unit/attest/snp-fixture.ts';
import { haveVectors, vector } from './evidence-targets.ts';
import type { Seed, Target } from './target.ts';

/** A certificate counts where its issuer signed it. */
function certificateSeeds(): Seed[] {
  const intel = new FakeIntel();
  const { root, authority, pck } = intel.certificates;
  const given: [string, Buffer, Buffer][] = [
    ['VCEK of our own', vek(), ask()],
    ['ASK of our own', ask(), ark],
    ['PCK of our own', pck, authority],
    ['PCK authority of our own', authority, root],
  ];
  return given.map(([name, bytes, issuer]) => {
    const { x509 } = parseCertificate(issuer, 'issuer');
    return {
      name,
      bytes,
      accepts: (input) => parseCertificate(input, 'certificate').x509.verify(x509.publicKey),
    };
  });
}

function crlSeeds(): Seed[] {
  const intel = new FakeIntel();
  const seed = (name: string, bytes: Buffer, issuer: Certificate, at: Date): Seed => ({
    name,
    bytes,
    accepts: (input) => crlProblem(parseCrl(input, 'list'), issuer, at) === undefined,
  });
  const authority = parseCertificate(intel.certificates.root, 'issuer');
  return [
    seed(
      'of our own AMD',
      rawCrl({ issuer: 'ARK', revoked: [Buffer.from([1, 0, 1])] }, keys.ark.privateKey),
      parseCertificate(ark, 'issuer'),
      now,
    ),
    seed('of our own Intel', intel.crl('root'), authority, AT),
  ];
}

/** Signed JSON: the bytes and the reading of them. */
function jsonSeeds(kind: 'tcb-info' | 'qe-identity'): Seed[] {
  const intel = new FakeIntel();
  const own =
    kind === 'tcb-info' ? [intel.tcbInfo(), intel.tdxInfo()] : [intel.qeIdentity(), intel.qeIdentity({ id: 'TD_QE' })];
  const parse = kind === 'tcb-info' ? parseTcbInfo : parseQeIdentity;
  const seeds = own.map(
    (signed: SignedJson, index): Seed => ({
      name: `own ${index}`,
      bytes: Buffer.from(signed.body),
      accepts: (input) => {
        parse(input);
        return verifyP256(intel.signer.publicKey, input, signed.signature);
      },
    }),
  );
  return seeds;
}

function collateralSeeds(): Seed[] {
  const names = ['phala-sgx-collateral.json', 'google-tdx-v5-collateral.json', 'intel-sgx-sample.tcbInfo.json'];
  const genuine = haveVectors ? names.map((name) => [name, vector('dcap', name)] as const) : [];
  const intel = new FakeIntel();
  const { body, signature } = intel.tcbInfo();
  const answer = Buffer.from(`{"tcbInfo":${body},"signature":"${Buffer.from(signature).toString('hex')}"}`);
  const accepts = (input: Buffer) => {
    const found = importIntel(input);
    if (found) openCollateral(found);
    parseEndorsements(input, 'file');
    return found !== null;
  };
  return [['own', answer] as const, ...genuine].map(([name, bytes]) => ({ name, bytes, accepts }));
}

export const endorsementTargets: Target[] = [
  { name: 'certificate', genuine: true, share: 0.1, seeds: async () => certificateSeeds() },
  { name: 'crl', genuine: true, share: 0.1, seeds: async () => crlSeeds() },
  { name: 'tcb-info', genuine: true, share: 0.5, seeds: async () => jsonSeeds('tcb-info') },
  { name: 'qe-identity', genuine: true, share: 1, seeds: async () => jsonSeeds('qe-identity') },
  { name: 'collateral', genuine: false, share: 0.04, seeds: async () => collateralSeeds() },
];

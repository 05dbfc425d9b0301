import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { readPemChain } from '../../src/attest/dcap/pem.ts';
import { parseQuote } from '../../src/attest/dcap/quote.ts';
import { verifyDcap } from '../../src/attest/dcap/verify.ts';
import { parseDocument } from '../../src/attest/document.ts';
import { createSimulatedAttester, createSimulatedRoot, detectKind, type Verified } from '../../src/attest/index.ts';
import { verifyNitro } from '../../src/attest/nitro.ts';
import { verifySimulated } from '../../src/attest/simulated.ts';
import { verifySnp } from '../../src/attest/snp/verify.ts';
import { allPass } from '../../src/core/check.ts';
import { parseSign1 } from '../../src/core/cose.ts';
import { AT, FakeIntel } from '../../test/unit/attest/dcap/fake-intel.ts';
import { check as checkQuote, SGX, TDX } from '../../test/unit/attest/dcap/vectors.ts';
import { nitroDocument, trust as nitroTrust } from '../../test/unit/attest/nitro-fixture.ts';
import { snpReport, trust as snpTrust } from '../../test/unit/attest/snp-fixture.ts';
import type { Seed, Target } from './target.ts';

const root = resolve(import.meta.dirname, '../..', process.env.ATOMA_TEE_VECTORS ?? '../shared/vectors');
/** Reference data that is not in this repository: without it the seeds are our own. */
export const haveVectors = existsSync(root);
export const vector = (...path: string[]): Buffer => readFileSync(join(root, ...path));

const passes = ({ checks }: Verified): boolean => allPass(checks);
const now = new Date('2026-11-22T10:00:00Z');

/** The genuine ones, if they are here; `fixture` makes one under a root of our own. */
const withVectors = (own: Seed[], genuine: () => Seed[]): Seed[] => [...own, ...(haveVectors ? genuine() : [])];

const seed = (name: string, bytes: Buffer, accepts: (input: Buffer) => boolean, means?: Seed['means']): Seed => ({
  name,
  bytes,
  accepts: (input) => {
    // Every file that somebody hands in goes through this first.
    detectKind(input);
    return accepts(input);
  },
  ...(means ? { means } : {}),
});

const GENUINE = ['02-evervault-signed-pcr8-2022', '04-veracruz-2022'];

function nitroSeeds(): Seed[] {
  const own = (bytes: Buffer, name: string) => seed(name, bytes, (input) => passes(verifyNitro(input, nitroTrust())));
  return withVectors([own(nitroDocument(), 'own document'), own(nitroDocument({ tagged: true }), 'tagged')], () =>
    GENUINE.map((name) =>
      seed(name, vector('nitro-docs', `${name}.cbor`), (input) =>
        passes(verifyNitro(input, { allowSimulated: [], now })),
      ),
    ),
  );
}

/** What is inside, where the envelope would stop most changes. */
function documentSeeds(): Seed[] {
  const payload = (bytes: Buffer) =>
    Buffer.from(parseSign1(bytes, { what: 'seed', maxBytes: 1 << 14, tag: 'optional', form: 'any' }).payload);
  const parse = (name: string, bytes: Buffer): Seed => ({
    name,
    bytes: payload(bytes),
    accepts: (input) => parseDocument(input, 'any').moduleId.length > 0,
  });
  return withVectors([parse('own', nitroDocument())], () =>
    GENUINE.map((name) => parse(name, vector('nitro-docs', `${name}.cbor`))),
  );
}

async function simulatedSeeds(): Promise<Seed[]> {
  const issuer = await createSimulatedRoot();
  const measured = { tee: 'nitro', pcr0: '01'.repeat(48), pcr1: '02'.repeat(48), pcr2: '03'.repeat(48) } as const;
  const [mrenclave, mrsigner] = ['0e'.repeat(32), '51'.repeat(32)];
  const enclave = { tee: 'sgx', mrenclave, mrsigner, isvprodid: 1, isvsvn: 2, debug: false } as const;
  const options = { allowSimulated: [issuer.fingerprint], now: new Date() };
  const make = async (name: string, of: typeof measured | typeof enclave) => {
    const evidence = await createSimulatedAttester(issuer, of).attest({ nonce: Buffer.alloc(16, 1) });
    return seed(name, Buffer.from(evidence), (input) => passes(verifySimulated(input, options)));
  };
  return [await make('evidence', measured), await make('for an SGX enclave', enclave)];
}

/** Bytes after a quote are nobody's, and line breaks in the PEM of its certificates say nothing: all else must be the same. */
function sameQuote(original: Buffer): (input: Buffer) => boolean {
  const essence = (bytes: Buffer): string => {
    const { signed, signature, attestationKey, qeReport, qeReportSignature, qeAuthData, certification } =
      parseQuote(bytes);
    const parts = [signed, signature, attestationKey, qeReport.bytes, qeReportSignature, qeAuthData];
    const chain = readPemChain(certification.data.toString('latin1')) ?? [];
    return [...parts, ...chain].map((part) => part.toString('hex')).join(' ');
  };
  const expected = essence(original);
  return (input) => essence(input) === expected;
}

function quoteSeeds(tee: 'sgx' | 'tdx'): Seed[] {
  const intel = new FakeIntel();
  const options = {
    allowSimulated: [],
    now: AT,
    roots: [intel.certificates.root],
    endorsements: intel.endorsements(),
  };
  const versions = tee === 'sgx' ? ([3, 4, 5] as const) : ([4, 5] as const);
  const own = versions.map((version) => {
    const bytes = intel.quote({ version, tee, ...(version === 5 ? { tdReportLength: 648 } : {}), trailing: version });
    return seed(`own, version ${version}`, bytes, (input) => passes(verifyDcap(input, options)), sameQuote(bytes));
  });
  return withVectors(own, () => {
    const given = tee === 'sgx' ? SGX : TDX;
    const accepts = (quote: Buffer) => passes(checkQuote({ ...given, quote }));
    return [seed('genuine', given.quote, accepts, sameQuote(given.quote))];
  });
}

function snpSeeds(): Seed[] {
  const options = snpTrust();
  const own = [2, 3, 5].map((version) =>
    seed(`own, version ${version}`, snpReport({ version }), (input) => passes(verifySnp(input, options))),
  );
  return withVectors(own, () => {
    const vcek = vector('snp', 'google-milan-vcek.der');
    const endorsements = { certificates: [vcek], crls: [], tcbInfos: [], qeIdentities: [] };
    return [
      seed('genuine', vector('snp', 'google-milan-report.bin'), (input) => {
        // It is of a guest that may be debugged: that check fails for the genuine one too.
        const { checks } = verifySnp(input, { allowSimulated: [], now, endorsements });
        return allPass(checks.filter(({ id }) => id !== 'evidence.debug'));
      }),
    ];
  });
}

export const evidenceTargets: Target[] = [
  { name: 'nitro', genuine: true, share: 0.1, seeds: async () => nitroSeeds() },
  { name: 'nitro-document', genuine: false, share: 1, seeds: async () => documentSeeds() },
  { name: 'simulated', genuine: true, share: 0.1, seeds: simulatedSeeds },
  { name: 'sgx-quote', genuine: true, share: 0.1, seeds: async () => quoteSeeds('sgx') },
  { name: 'tdx-quote', genuine: true, share: 0.1, seeds: async () => quoteSeeds('tdx') },
  { name: 'snp-report', genuine: true, share: 0.1, seeds: async () => snpSeeds() },
];

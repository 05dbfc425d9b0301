/**
 * Verifying evidence in a warm process against the bare cost of its signatures: the calls into OpenSSL that one verification
 * makes are recorded and made again with the same keys and bytes, in turn with whole verifications. What OpenSSL does not
 * have to do, as the self-signature of a pinned root, is left out of the bare cost.
 * `bin/with-node bench/evidence.ts [ROUNDS]`; genuine evidence comes from the reference vectors.
 */
import crypto, { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { verifyNitro } from '../src/attest/nitro.ts';
import { verifySnp } from '../src/attest/snp/verify.ts';
import type { Verified } from '../src/attest/types.ts';
import { check, SGX, TDX } from '../test/unit/attest/dcap/vectors.ts';
import { nitroDocument, trust } from '../test/unit/attest/nitro-fixture.ts';
import { haveVectors, vectors } from '../test/unit/vectors.ts';
import { interleave, median, report } from './lib.ts';

const BAR = 2;
const rounds = Number(process.argv[2] ?? 300);
if (!haveVectors) throw new Error('the reference vectors are needed (ATOMA_TEE_VECTORS)');

type Call = { name: string; again: () => unknown; needed: boolean };

/** Makes `verify` of node:crypto and of certificates tell what they are asked, for one verification. */
function record(verifyEvidence: () => Verified): Call[] {
  const calls: Call[] = [];
  const { verify } = crypto;
  const { verify: verifyCertificate } = X509Certificate.prototype;
  crypto.verify = ((...given: Parameters<typeof verify>) => {
    const key = given[2] as crypto.KeyObject | { key: crypto.KeyObject };
    calls.push({ name: kindOf('key' in key ? key.key : key), again: () => verify(...given), needed: true });
    return verify(...given);
  }) as typeof verify;
  X509Certificate.prototype.verify = function (key) {
    const again = () => verifyCertificate.call(this, key);
    calls.push({ name: kindOf(key), again, needed: !this.publicKey.equals(key) });
    return again();
  };
  syncBuiltinESMExports();
  try {
    verifyEvidence();
  } finally {
    crypto.verify = verify;
    X509Certificate.prototype.verify = verifyCertificate;
    syncBuiltinESMExports();
  }
  return calls;
}

function kindOf({ asymmetricKeyType, asymmetricKeyDetails = {} }: crypto.KeyObject): string {
  const { namedCurve, modulusLength } = asymmetricKeyDetails;
  return `${asymmetricKeyType} ${namedCurve ?? modulusLength}`;
}

function countOf(calls: Call[]): string {
  const counts = new Map<string, number>();
  for (const { name } of calls) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} x ${name}`).join(', ');
}

const now = new Date('2026-11-22T00:00:00Z');
const nitro = readFileSync(vectors('nitro-docs', '04-veracruz-2022.cbor'));
const snp = readFileSync(vectors('snp', 'google-milan-report.bin'));
const vcek = readFileSync(vectors('snp', 'google-milan-vcek.der'));
const endorsements = { certificates: [vcek], crls: [], tcbInfos: [], qeIdentities: [] };

/** A verifier of many machines meets new ones: the certificates of the machine and of the enclave were not seen before. */
const fresh = Array.from({ length: rounds + 3 }, (_, index) =>
  nitroDocument({ leaf: { serial: Buffer.from([1, index >> 8, index & 0xff, 1]) } }),
);
let next = 0;

const KINDS: Record<string, () => Verified> = {
  Nitro: () => verifyNitro(nitro, { allowSimulated: [], now }),
  SGX: () => check(SGX),
  TDX: () => check(TDX),
  SNP: () => verifySnp(snp, { allowSimulated: [], now, endorsements }),
  'Nitro, two certificates not seen before': () => verifyNitro(fresh[next++ % fresh.length] as Buffer, trust()),
};

/** The machine is shared: each round is a few milliseconds of both, and medians of many rounds are compared. */
for (const [kind, verifyEvidence] of Object.entries(KINDS)) {
  // The first one has to check every signature; later ones know some of them.
  const needed = record(verifyEvidence).filter((call) => call.needed);
  const warm = record(verifyEvidence);
  const times = await interleave(rounds, {
    bare: () => {
      for (const { again } of needed) if (again() !== true) throw new Error(`${kind}: a signature does not hold`);
    },
    whole: verifyEvidence,
  });
  const [bare, whole] = [median(times.bare), median(times.whole)];
  console.log(
    `${kind}: ${whole.toFixed(2)} ms, ${(1000 / whole).toFixed(0)} verifications/s on a core; bare ${bare.toFixed(2)} ms for ${countOf(needed)} (${warm.length} made when warm)`,
  );
  report(`  verification / bare signatures`, whole / bare, BAR);
}

import { type Check, fail, pass, skipped } from '../core/check.ts';
import { type Certificate, KEY_USAGE, OID } from './certificate.ts';

export interface ChainOptions {
  /** Fingerprints ("sha256:...") of the roots that the caller trusts. */
  roots: string[];
  /** The time at which the chain has to hold. */
  at: Date;
  /** The verifier's clock: an expiry since `at` is reported, and fails only where `current` is set. */
  now: Date;
  current: boolean;
  /** Object identifiers of critical extensions that the caller checks itself, leaf only. */
  understood?: string[];
}

/**
 * Checks a chain, root first and leaf last (RFC 5280 section 6, the part that vendors' attestation chains use): the root
 * is one of the caller's, every issuer and subject match byte for byte, signatures, CA flags, key usage, path lengths, no
 * unknown critical extension, validity at `at`. There is no network and no trust store.
 */
export function verifyChain(chain: Certificate[], options: ChainOptions): Check[] {
  const root = chain[0];
  const trusted = root !== undefined && options.roots.includes(root.fingerprint);
  const problem = chain.length < 2 ? 'no certificates below the root' : findProblem(chain, options.understood ?? []);
  return [
    trusted
      ? pass('evidence.root', root.fingerprint)
      : fail('evidence.root', {
          expected: options.roots.join(' or ') || 'a root that the caller allowed (none was)',
          actual: root?.fingerprint ?? 'none',
        }),
    problem === undefined ? pass('evidence.chain') : fail('evidence.chain', { detail: problem }),
    ...validity(chain, options),
  ];
}

function findProblem(chain: Certificate[], understood: string[]): string | undefined {
  for (const [index, certificate] of chain.entries()) {
    const leaf = index === chain.length - 1;
    const issuer = chain[Math.max(0, index - 1)] as Certificate;
    const name = leaf ? 'the leaf certificate' : `certificate ${index} (0 is the root)`;
    if (Buffer.compare(certificate.issuer, issuer.subject) !== 0) return `${name}: its issuer is another name`;
    if (!certificate.x509.verify(issuer.x509.publicKey)) return `${name}: the signature is not its issuer's`;
    const purpose = leaf ? KEY_USAGE.digitalSignature : KEY_USAGE.keyCertSign;
    if (certificate.ca === leaf) return `${name}: expected CA:${leaf ? 'FALSE' : 'TRUE'}`;
    if (((certificate.keyUsage ?? 0) & purpose) === 0) {
      return `${name}: its key usage does not allow ${leaf ? 'digitalSignature' : 'keyCertSign'}`;
    }
    const below = chain.length - 2 - index;
    if (certificate.pathLength !== undefined && !leaf && certificate.pathLength < below) {
      return `${name}: path length ${certificate.pathLength}, but ${below} CA certificates follow`;
    }
    const known: string[] = [...Object.values(OID), ...(leaf ? understood : [])];
    for (const [oid, { critical }] of certificate.extensions) {
      if (critical && !known.includes(oid)) return `${name}: unknown critical extension ${oid}`;
    }
  }
  return undefined;
}

function validity(chain: Certificate[], { at, now, current }: ChainOptions): Check[] {
  const begin = new Date(Math.max(...chain.map((c) => c.notBefore.getTime())));
  const end = new Date(Math.min(...chain.map((c) => c.notAfter.getTime())));
  const period = `${begin.toISOString()} to ${end.toISOString()}`;
  const judge = (id: string, time: Date) =>
    time >= begin && time <= end
      ? pass(id, period)
      : fail(id, { expected: `a time in ${period}`, actual: time.toISOString() });
  const expired = judge('evidence.valid-now', now);
  return [
    judge('evidence.validity', at),
    expired.status === 'fail' && !current
      ? skipped('evidence.valid-now', `the chain held from ${period}; by the clock (${now.toISOString()}) it does not`)
      : expired,
  ];
}

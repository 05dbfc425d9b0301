import { type Check, fail, pass, skipped } from '../core/check.ts';
import { type Certificate, isSignedBy, KEY_USAGE, type KeyKind, OID } from './certificate.ts';

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
  /** What kind of key the vendor's certificates have; absent: the caller judges them. */
  keys?: { authority: KeyKind; leaf: KeyKind };
  /** AMD's leaves say nothing of what their key is for; what a leaf says must still allow signatures. */
  leafUsage?: 'required' | 'optional';
  /** First part of the checks' ids, for evidence with several chains; "evidence" by default. */
  prefix?: string;
  /** Whose the roots are, for the verdict. */
  note?: string;
}

/**
 * Checks a chain, root first and leaf last (RFC 5280 section 6, the part that vendors' attestation chains use): the root
 * is one of the caller's, every issuer and subject match byte for byte, signatures, CA flags, key usage, path lengths, no
 * unknown critical extension, validity at `at`. There is no network and no trust store.
 */
export function verifyChain(chain: Certificate[], options: ChainOptions): Check[] {
  const root = chain[0];
  const trusted = root !== undefined && options.roots.includes(root.fingerprint);
  const problem = chain.length < 2 ? 'no certificates below the root' : findProblem(chain, options);
  const { prefix = 'evidence', note } = options;
  return [
    trusted
      ? pass(`${prefix}.root`, `${root.fingerprint}${note === undefined ? '' : ` (${note})`}`)
      : fail(`${prefix}.root`, {
          expected: options.roots.join(' or ') || 'a root that the caller allowed (none was)',
          actual: root?.fingerprint ?? 'none',
          ...(note === undefined ? {} : { detail: note }),
        }),
    problem === undefined ? pass(`${prefix}.chain`) : fail(`${prefix}.chain`, { detail: problem }),
    ...validity(chain, options),
  ];
}

function findProblem(
  chain: Certificate[],
  { understood = [], keys, leafUsage = 'required' }: ChainOptions,
): string | undefined {
  for (const [index, certificate] of chain.entries()) {
    const leaf = index === chain.length - 1;
    const issuer = chain[Math.max(0, index - 1)] as Certificate;
    const name = leaf ? 'the leaf certificate' : `certificate ${index} (0 is the root)`;
    if (Buffer.compare(certificate.issuer, issuer.subject) !== 0) return `${name}: its issuer is another name`;
    if (!isSignedBy(certificate, issuer)) return `${name}: the signature is not its issuer's`;
    const kind = leaf ? keys?.leaf : keys?.authority;
    if (kind !== undefined && certificate.key !== kind) return `${name}: expected a key of kind ${kind}`;
    const purpose = leaf ? KEY_USAGE.digitalSignature : KEY_USAGE.keyCertSign;
    if (certificate.ca === leaf) return `${name}: expected CA:${leaf ? 'FALSE' : 'TRUE'}`;
    const usage = certificate.keyUsage ?? (leaf && leafUsage === 'optional' ? purpose : 0);
    if ((usage & purpose) === 0) {
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

function validity(chain: Certificate[], { at, now, current, prefix = 'evidence' }: ChainOptions): Check[] {
  const begin = new Date(Math.max(...chain.map((c) => c.notBefore.getTime())));
  const end = new Date(Math.min(...chain.map((c) => c.notAfter.getTime())));
  const period = `${begin.toISOString()} to ${end.toISOString()}`;
  const judge = (id: string, time: Date) =>
    time >= begin && time <= end
      ? pass(id, period)
      : fail(id, { expected: `a time in ${period}`, actual: time.toISOString() });
  const expired = judge(`${prefix}.valid-now`, now);
  return [
    judge(`${prefix}.validity`, at),
    expired.status === 'fail' && !current
      ? skipped(`${prefix}.valid-now`, `the chain held from ${period}; by the clock (${now.toISOString()}) it does not`)
      : expired,
  ];
}

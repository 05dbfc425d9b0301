import type { Tee } from '../attest/types.ts';
import { hex } from '../core/bytes.ts';
import { AtomaError, negativeError, refusedError } from '../core/errors.ts';
import { type ParsedHeader, verifyHeaderSignature } from '../seal/header.ts';
import { checkContentKey } from '../seal/recipients.ts';
import { combineShares } from '../seal/shares.ts';
import { type Post, requestShare, type ShareRequest } from './client.ts';

// Runs inside the enclave: nothing here believes the host or a broker.

export interface ReleaseOptions {
  /** The brokers to ask, in the host's order: "broker 1" is the first. */
  brokers: Post[];
  attester: ShareRequest['attester'];
  tee: Tee;
  header: ParsedHeader;
  /** What the image measured: the owner's raw Ed25519 key (32 bytes), the project, the model digest (hex). */
  measured: { owner: Uint8Array; project: string; model: string };
  /** Milliseconds that one broker may take for both of its answers. */
  timeoutMs?: number;
  /** Hears of each broker that did not release, as it happens. */
  onFailure?: (failure: BrokerFailure) => void;
}

/** A broker that gave no share, or a wrong one. */
export interface BrokerFailure {
  /** Its place in the host's list, from 1. */
  broker: number;
  /** What it said its key id is, hex; absent where it did not get to that. */
  keyId?: string;
  error: AtomaError;
}

const TIMEOUT_MS = 45_000;
/** Brokers asked at once. Of a model with threshold 1 every release gives the whole key: the next is asked when one failed. */
const AT_ONCE = 8;
/** Brokers that one error lists; the rest are counted. */
const MOST_LISTED = 16;

/**
 * Gets the content key (32 bytes) of a sealed model from its brokers: the first that releases it, or as many shares as the
 * threshold says. Every share is checked against its commitment, the combined key against the header's; a broker that
 * lies, is dead, slow or refuses is named and does not stop the others. Before asking: the header is signed by the measured
 * owner. After: the policy names the measured project and model.
 *
 * Throws `ERR_SEAL_OWNER`, `ERR_SEAL_SIGNATURE`, `ERR_SEAL_KEY`, `ERR_RELEASE_MISMATCH` (exit 3). Where too few released: what the only
 * broker said; what all of them said, if it is the same; else `ERR_RELEASE_THRESHOLD` (exit 4), which lists them.
 */
export async function requestRelease(options: ReleaseOptions): Promise<Buffer> {
  const { header: parsed, measured } = options;
  const { header } = parsed;
  verifyHeaderSignature(parsed, measured.owner);
  const contentKey = await collect(options);
  try {
    checkContentKey(header, contentKey);
    const { project, model } = header.policy;
    if (project !== measured.project || model !== measured.model) {
      throw negativeError(
        'ERR_RELEASE_MISMATCH',
        `expected a policy for project ${measured.project} and model ${measured.model}, found ${project} and ${model}`,
      );
    }
    return contentKey;
  } catch (error) {
    contentKey.fill(0);
    throw error;
  }
}

async function collect(options: ReleaseOptions): Promise<Buffer> {
  const { t } = options.header.header.threshold;
  const { shares, failures } = await askBrokers(options, t);
  const found = [...shares.values()];
  try {
    const [only] = found;
    if (found.length < t) throw tooFew(options, found.length, failures);
    return t === 1 && only !== undefined ? Buffer.from(only) : await combineShares(found);
  } finally {
    for (const share of found) share.fill(0);
  }
}

/** Asks until `t` different shares are there or nobody is left. What arrives later is overwritten. */
async function askBrokers(options: ReleaseOptions, t: number) {
  const { brokers, header, attester, tee, timeoutMs = TIMEOUT_MS, onFailure } = options;
  const shares = new Map<number, Buffer>();
  const failures: BrokerFailure[] = [];
  const over = Promise.withResolvers<void>();
  let done = false;
  let next = 0;

  const askOne = async (index: number): Promise<void> => {
    let keyId: string | undefined;
    const onBroker = (id: Uint8Array) => {
      keyId = hex(id);
    };
    try {
      const post = brokers[index] as Post;
      const { number, share } = await within(timeoutMs, requestShare({ post, attester, tee, header, onBroker }));
      if (done || shares.has(number)) share.fill(0);
      if (done) return;
      if (shares.has(number)) {
        throw refusedError(
          'ERR_RELEASE_RECIPIENT',
          `expected another broker, found one that was asked already (share ${number})`,
        );
      }
      shares.set(number, share);
    } catch (error) {
      if (done) return;
      const failure = { broker: index + 1, ...(keyId === undefined ? {} : { keyId }), error: asAtomaError(error) };
      failures.push(failure);
      onFailure?.(failure);
    }
  };
  const worker = async (): Promise<void> => {
    while (!done && next < brokers.length) {
      await askOne(next++);
      if (shares.size >= t) over.resolve();
    }
  };

  const workers = Array.from({ length: t === 1 ? 1 : AT_ONCE }, worker);
  await Promise.race([over.promise, Promise.all(workers)]);
  done = true;
  return { shares, failures };
}

/** The answer, or `ERR_BROKER_UNREACHABLE` after `ms`. A share that comes too late is overwritten. */
async function within<T extends { share: Buffer }>(ms: number, answer: Promise<T>): Promise<T> {
  let late = false;
  answer.then(
    ({ share }) => late && share.fill(0),
    () => {},
  );
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late = true;
    const seconds = Math.ceil(ms / 1000);
    reject(
      new AtomaError('unexpected', 'ERR_BROKER_UNREACHABLE', `expected a release within ${seconds} s, found none`),
    );
  }, ms);
  try {
    return await Promise.race([answer, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** How people are told of a broker: the launcher, which knows addresses, adds its own. */
export const brokerName = ({ broker, keyId }: Pick<BrokerFailure, 'broker' | 'keyId'>): string =>
  `broker ${broker}${keyId === undefined ? '' : ` (key id ${keyId})`}`;

/** One error for all that failed. That a broker is not a recipient says less than why one that is said no. */
function tooFew({ brokers, header }: ReleaseOptions, found: number, failures: BrokerFailure[]): AtomaError {
  const [first] = failures;
  if (brokers.length === 1 && first !== undefined && header.header.threshold.t === 1) return first.error;
  const { t, n } = header.header.threshold;
  const listed = failures.toSorted((a, b) => a.broker - b.broker).slice(0, MOST_LISTED);
  const more = failures.length - listed.length;
  const said = listed.map((failure) => `${brokerName(failure)}: ${failure.error.message.slice(0, 300)}`);
  const message = `expected ${t} of the ${n} brokers of this model to release it, found ${found}; ${said.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
  const details = {
    threshold: t,
    released: found,
    brokers: listed.map(({ error, ...which }) => ({
      ...which,
      code: error.code,
      message: error.message.slice(0, 300),
    })),
  };
  const telling = failures.filter(({ error }) => error.code !== 'ERR_RELEASE_RECIPIENT');
  const codes = new Set((telling.length > 0 ? telling : failures).map(({ error }) => error.code));
  const [code] = codes;
  const same = failures.find(({ error }) => error.code === code)?.error;
  if (codes.size !== 1 || same === undefined) return refusedError('ERR_RELEASE_THRESHOLD', message, { details });
  return new AtomaError(EXIT_NAME[same.exitCode], same.code, message, {
    details,
    ...(same.hint ? { hint: same.hint } : {}),
  });
}

const EXIT_NAME = { 1: 'unexpected', 2: 'usage', 3: 'negative', 4: 'refused', 5: 'missing' } as const;

/** Of anything that is not ours nothing is told: a hostile answer may have chosen its words. */
const asAtomaError = (error: unknown): AtomaError =>
  error instanceof AtomaError
    ? error
    : refusedError('ERR_RELEASE_REPLY', 'expected a release from the broker, found an answer that cannot be read');

import { randomBytes } from 'node:crypto';
import { appraise } from '../attest/appraise.ts';
import { RELEASE_PCR } from '../attest/simulated-attester.ts';
import type { Claims, Endorsements } from '../attest/types.ts';
import { verifyEvidence } from '../attest/verify.ts';
import { equalBytes, hex, sha256 } from '../core/bytes.ts';
import { keyId } from '../keys/keys.ts';
import { KIND, type ParsedHeader, type Recipient } from '../seal/header.ts';
import { openShare } from '../seal/recipients.ts';
import {
  type Challenge,
  decodeRelease,
  encodeReply,
  NONCE_LENGTH,
  type ReleaseRequest,
  releaseBinder,
} from './protocol.ts';
import { asRefusal, refusal, refuseErrors, refuseFirst } from './refusal.ts';
import { type BrokerState, MemoryState } from './state.ts';
import { checkBinder, readHeader, rewrap } from './steps.ts';

const NONCE_SECONDS = 60;
/** How old evidence may be by the broker's clock. */
const EVIDENCE_SECONDS = 300;

export interface BrokerOptions {
  /** The broker's X-Wing key: 32-byte seed and 1216-byte public key. */
  seed: Uint8Array;
  publicRaw: Uint8Array;
  /** Fingerprints of simulated roots; [] (a production broker) refuses simulated evidence altogether. */
  allowSimulated: string[];
  /** The broker's own certificates, revocation lists and TCB data; an attester's are never used. */
  endorsements?: Endorsements;
  /** Raw Ed25519 keys: serves models of these owners only. Default: anybody's that are sealed to this broker. */
  owners?: Uint8Array[];
  /** Roots (DER) in place of the vendors' pinned ones. */
  roots?: Uint8Array[];
  clock?: () => Date;
  state?: BrokerState;
}

/**
 * Releases a share of a sealed model to an enclave whose evidence satisfies the policy in the model's header. It keeps no
 * keys but its own: shares travel in headers.
 */
export class Broker {
  readonly keyId: Buffer;
  readonly #options: BrokerOptions & Required<Pick<BrokerOptions, 'clock' | 'state'>>;

  constructor(options: BrokerOptions) {
    const { clock = () => new Date(), state = new MemoryState() } = options;
    this.#options = { ...options, clock, state };
    this.keyId = keyId(options.publicRaw);
  }

  /** A fresh nonce. */
  async challenge(): Promise<Challenge> {
    const nonce = randomBytes(NONCE_LENGTH);
    const now = this.#seconds();
    const expires = now + NONCE_SECONDS;
    await this.#options.state.issue(nonce, expires, now);
    return { nonce, expires, broker: this.keyId };
  }

  /**
   * Answers a release request (dCBOR in, dCBOR out). The order of the steps is the protocol's: nothing that the requester
   * sent is believed before what vouches for it was checked, and no state moves before the share opened.
   * Throws `ERR_RELEASE_*` (exit 4) with details {rule, expected, found}.
   */
  async release(body: Uint8Array): Promise<Uint8Array> {
    const request = decodeRelease(body);
    await this.#checkNonce(request.nonce);
    const claims = await this.#checkEvidence(request);
    const headerDigest = sha256(request.header);
    const binder = releaseBinder({ ...request, brokerKeyId: this.keyId, headerDigest });
    checkBinder(claims, binder, request.nonce);
    const parsed = await readHeader(request.header, headerDigest);
    this.#checkOwner(parsed);
    const share = await this.#openShare(parsed, request.share);
    refuseFirst('ERR_RELEASE_POLICY', appraise(parsed.header.policy, claims, this.#options.clock()));
    await this.#commit(request, parsed, claims);
    return encodeReply(await rewrap(request.pkE, binder, share));
  }

  /**
   * Raises the epoch in force to that of a sealed header (its bytes without padding): older headers of the same owner and seal are refused
   * from then on. An older header than that changes nothing. The owner's signature and a share of ours that opens come first, so nobody
   * moves the epochs of a stranger's seal. Throws `ERR_RELEASE_*` (exit 4) with details {rule, expected, found}.
   */
  async advance(body: Uint8Array): Promise<{ previous: number; epoch: number }> {
    const parsed = await readHeader(body, sha256(body));
    this.#checkOwner(parsed);
    const mine = this.#recipients(parsed)[0];
    (await this.#openShare(parsed, mine?.share ?? 0)).fill(0);
    const { owner, sealId, epoch } = parsed.header;
    const entry = { event: 'advance' as const, ...this.#entry(parsed) };
    const outcome = await this.#options.state.advance({ owner, sealId, epoch, entry });
    if (outcome === 'full') throw fullRefusal();
    return outcome;
  }

  #seconds(): number {
    return Math.floor(this.#options.clock().getTime() / 1000);
  }

  async #checkNonce(nonce: Uint8Array): Promise<void> {
    const status = await this.#options.state.nonceStatus(nonce, this.#seconds());
    if (status !== 'fresh') throw nonceRefusal(status);
  }

  async #checkEvidence({ evidence, tee }: ReleaseRequest): Promise<Claims> {
    const { allowSimulated, clock, endorsements, roots } = this.#options;
    if (tee === 'simulated' && allowSimulated.length === 0) {
      throw refusal('ERR_RELEASE_SIMULATED', 'simulated', 'evidence of real hardware', 'SIMULATED evidence');
    }
    const { claims, checks } = await refuseErrors('ERR_RELEASE_EVIDENCE', 'evidence', `${tee} evidence`, () =>
      verifyEvidence(evidence, {
        tee,
        allowSimulated,
        now: clock(),
        at: clock(),
        maxAgeSeconds: EVIDENCE_SECONDS,
        ...(endorsements === undefined ? {} : { endorsements }),
        ...(roots === undefined ? {} : { roots }),
      }),
    );
    refuseFirst('ERR_RELEASE_EVIDENCE', checks);
    const spent = claims.pcrs?.get(RELEASE_PCR);
    if (spent !== undefined && !/^0*$/.test(spent)) {
      throw refusal('ERR_RELEASE_LOCKED', `pcr${RELEASE_PCR}`, 'zero', 'extended: this enclave has opened its model');
    }
    return claims;
  }

  #checkOwner({ header }: ParsedHeader): void {
    const { owners } = this.#options;
    if (owners === undefined || owners.some((owner) => equalBytes(owner, header.owner))) return;
    throw refusal('ERR_RELEASE_OWNER', 'owner', 'a model of an owner that this broker serves', hex(header.owner));
  }

  #recipients({ header }: ParsedHeader): Recipient[] {
    return header.recipients.filter((r) => r.kind === KIND.broker && equalBytes(r.keyId, this.keyId));
  }

  async #openShare(parsed: ParsedHeader, number: number): Promise<Buffer> {
    const mine = this.#recipients(parsed);
    const recipient = mine.find((r) => r.share === number);
    if (recipient === undefined) {
      const expected =
        mine.length > 0 ? `share ${mine.map((r) => r.share).join(' or ')}` : 'a model sealed to this broker';
      const found = mine.length > 0 ? `share ${number}` : 'one sealed to others';
      throw refusal('ERR_RELEASE_RECIPIENT', 'recipient', `${expected} (key id ${hex(this.keyId)})`, found);
    }
    try {
      return await openShare(parsed.header, recipient, Buffer.from(this.#options.seed));
    } catch (error) {
      throw asRefusal(
        error,
        'ERR_RELEASE_SHARE',
        'share',
        'a share sealed under this policy, owner, epoch and seal id',
      );
    }
  }

  #entry({ header, digest }: ParsedHeader) {
    return {
      time: this.#options.clock().toISOString(),
      broker: hex(this.keyId),
      owner: hex(header.owner),
      sealId: hex(header.sealId),
      epoch: header.epoch,
      headerDigest: hex(digest),
    };
  }

  async #commit(request: ReleaseRequest, parsed: ParsedHeader, claims: Claims): Promise<void> {
    const { owner, sealId, epoch } = parsed.header;
    const { state } = this.#options;
    const entry = {
      event: 'release' as const,
      ...this.#entry(parsed),
      share: request.share,
      tee: claims.tee,
      simulated: claims.simulated,
      measurement: claims.measurement,
      nonce: hex(request.nonce),
      evidence: hex(sha256(request.evidence)),
    };
    // The transaction looks again: another request may have used the nonce or raised the epoch since.
    const outcome = await state.commit({ nonce: request.nonce, owner, sealId, epoch, entry }, this.#seconds());
    if (outcome === 'nonce') throw nonceRefusal('used');
    if (outcome === 'full') throw fullRefusal();
    if (outcome === 'epoch') {
      const current = await state.epoch(owner, sealId);
      throw refusal('ERR_RELEASE_EPOCH', 'epoch', `epoch ${current} or later`, `epoch ${epoch}`);
    }
  }
}

const nonceRefusal = (status: string) =>
  refusal('ERR_RELEASE_NONCE', 'nonce', 'a nonce of this broker, unexpired and unused', `${status} nonce`);

const fullRefusal = () =>
  refusal('ERR_RELEASE_FULL', 'state', 'room for another seal', 'as many as this broker remembers');

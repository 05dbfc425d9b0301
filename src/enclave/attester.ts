import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { SecurityMode } from '../attest/receipt-claims.ts';
import type { Attester } from '../attest/simulated-attester.ts';
import type { Channel } from './channel.ts';
import { doubtClock } from './clock.ts';
import { createGramineAttester } from './gramine/attester.ts';
import { findGramine } from './gramine/device.ts';
import { createNsmAttester } from './nsm/attester.ts';
import { openNsm } from './nsm/device.ts';

/** Who vouches for this enclave. */
export interface EnclaveAttester extends Attester {
  tee: 'simulated' | 'nitro' | 'sgx';
  securityMode: SecurityMode;
  /** After this, no broker releases a key to this launch again; SGX has no means to that. */
  lock(): Promise<void>;
}

/**
 * The attester is found, not configured (key-release.md, "Simulated TEE"): a device where there is one, else the
 * launcher's. A device that is there and cannot be used ends the program (`ERR_NSM`, `ERR_ATTESTER`): falling back to
 * the launcher would turn a real TEE into a simulated one.
 */
export function findAttester(channel: Channel, root = '/'): EnclaveAttester {
  const gramine = findGramine(root);
  if (gramine !== undefined) {
    // SGX has no time of its own either: what the clock says is the host's word.
    doubtClock(root);
    return createGramineAttester(gramine, channel);
  }
  const nsm = join(root, 'dev/nsm');
  if (existsSync(nsm)) return createNsmAttester(openNsm(nsm), channel);
  doubtClock(root);
  return {
    tee: 'simulated',
    securityMode: 'evaluation',
    attest: (request) => channel.attest(request),
    lock: () => channel.lock(),
  };
}

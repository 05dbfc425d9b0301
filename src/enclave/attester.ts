import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { SecurityMode } from '../attest/receipt-claims.ts';
import type { Attester } from '../attest/simulated-attester.ts';
import { missingError } from '../core/errors.ts';
import type { Channel } from './channel.ts';

/** Who vouches for this enclave. */
export interface EnclaveAttester extends Attester {
  tee: 'simulated';
  securityMode: SecurityMode;
  /** After this, no broker releases a key to this launch again. */
  lock(): Promise<void>;
}

const DEVICES: [path: string, what: string][] = [
  ['dev/nsm', 'a Nitro Secure Module'],
  ['dev/attestation', "Gramine's attestation device"],
];

/**
 * The attester is found, not configured (key-release.md, "Simulated TEE"): a device where there is one, else the
 * launcher's. A device that is there and cannot be used ends the program (`ERR_ATTESTER`, exit 5): falling back to the
 * launcher would turn a real TEE into a simulated one.
 */
export function findAttester(channel: Channel, root = '/'): EnclaveAttester {
  for (const [path, what] of DEVICES) {
    if (existsSync(join(root, path))) {
      throw missingError('ERR_ATTESTER', `/${path} is ${what}, which this version of the enclave program cannot use`, {
        hint: 'build the image with a newer atoma-tee',
      });
    }
  }
  return {
    tee: 'simulated',
    securityMode: 'evaluation',
    attest: (request) => channel.attest(request),
    lock: () => channel.lock(),
  };
}

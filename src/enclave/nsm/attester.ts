import { RELEASE_PCR } from '../../attest/simulated-attester.ts';
import { equalBytes, hex, isZero, sha384 } from '../../core/bytes.ts';
import { decodeCbor } from '../../core/cbor.ts';
import { parseSign1, type Sign1 } from '../../core/cose.ts';
import type { EnclaveAttester } from '../attester.ts';
import type { Channel } from '../channel.ts';
import { trustClock } from '../clock.ts';
import { say } from '../log.ts';
import type { Nsm } from './device.ts';
import { NSM_RESPONSE_MAX, nsmError } from './protocol.ts';

/** What an image's registers are called in the log. */
const IMAGE_PCRS = [0, 1, 2];
/** What goes into the register that says "released"; the simulated attester extends it alike. */
export const RELEASED = Buffer.from('atoma-tee/released');

/**
 * The attester of a machine with a Nitro Secure Module. Tells the console what the module measured, and sets the clock
 * by it. A module that signs nothing is an emulator's: it is worth no more than the simulated TEE, so that the
 * launcher's simulated attester speaks, under its own name.
 *
 * Throws `ERR_NSM`: a module that is there and does not work is not passed over.
 */
export function createNsmAttester(nsm: Nsm, channel: Pick<Channel, 'attest' | 'lock'>): EnclaveAttester {
  for (const index of IMAGE_PCRS) say(`PCR${index} ${hex(nsm.describePcr(index).data)}`);
  const document = parseSign1(nsm.attestation({}), {
    what: 'document of the NSM',
    maxBytes: NSM_RESPONSE_MAX,
    tag: 'optional',
    form: 'any',
  });
  trustClock(timestampOf(document));
  const lockRegister = () => extendAndLock(nsm);
  if (isUnsigned(document)) {
    say("the NSM here signs nothing (an emulator's): SIMULATED evidence");
    return {
      tee: 'simulated',
      securityMode: 'evaluation',
      attest: (request) => channel.attest(request),
      async lock() {
        lockRegister();
        await channel.lock();
      },
    };
  }
  // In debug mode the host reads the console, and the registers say so: they are zero.
  const debug = isZero(nsm.describePcr(0).data);
  if (debug) say('this enclave runs in debug mode: it protects nothing');
  return {
    tee: 'nitro',
    securityMode: debug ? 'evaluation' : 'production',
    attest: async (request) => nsm.attestation(request),
    lock: async () => lockRegister(),
  };
}

/** -1 is no algorithm of COSE's; QEMU's hw/virtio/virtio-nsm.c writes it, with a signature of zeros. */
const isUnsigned = ({ protectedHeader, signature }: Sign1): boolean =>
  protectedHeader.get(1) === -1 && isZero(signature);

function timestampOf({ payload }: Sign1): number {
  const map = decodeCbor(payload, { what: 'document of the NSM', maxBytes: NSM_RESPONSE_MAX, form: 'any' });
  const timestamp = map instanceof Map ? map.get('timestamp') : undefined;
  if (!Number.isSafeInteger(timestamp)) throw nsmError('Attestation: expected a document with a timestamp');
  return timestamp as number;
}

/** From here on every document of this launch says that the key was released; nothing takes that back. */
function extendAndLock(nsm: Nsm): void {
  const before = nsm.describePcr(RELEASE_PCR).data;
  const after = nsm.extendPcr(RELEASE_PCR, RELEASED);
  nsm.lockPcr(RELEASE_PCR);
  const { locked, data } = nsm.describePcr(RELEASE_PCR);
  if (!locked || !equalBytes(data, after) || !equalBytes(data, sha384(before, RELEASED))) {
    throw nsmError(`expected PCR${RELEASE_PCR} to be extended and locked, and it is not`);
  }
}

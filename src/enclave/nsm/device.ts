import { closeSync, openSync } from 'node:fs';
import { loadKoffi } from '../native/koffi.ts';
import { libc, SyscallError } from '../native/libc.ts';
import {
  type AttestationFields,
  decodeResponse,
  encodeAttestation,
  encodeRequest,
  type Fields,
  NSM_RESPONSE_MAX,
  type NsmDescription,
  nsmError,
  type PcrState,
} from './protocol.ts';

/** A Nitro Secure Module. Every call takes a few milliseconds, on the calling thread; all throw `ERR_NSM`. */
export interface Nsm {
  describe(): NsmDescription;
  describePcr(index: number): PcrState;
  /** The register's new value: SHA-384 over the old one and `data`. */
  extendPcr(index: number, data: Uint8Array): Uint8Array;
  lockPcr(index: number): void;
  /** An attestation document (COSE_Sign1). Throws `ERR_ATTEST_REQUEST` (exit 2) for fields that are too long. */
  attestation(fields: AttestationFields): Uint8Array;
  random(): Uint8Array;
  close(): void;
}

/** _IOWR(0x0A, 0, struct nsm_raw), linux/nsm.h. */
const NSM_IOCTL_RAW = 0xc0200a00;
const PCR_LENGTH = 48;

/** Opens /dev/nsm. */
export function openNsm(path: string): Nsm {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (cause) {
    throw nsmError(`cannot open ${path}: ${(cause as NodeJS.ErrnoException).code}`, cause);
  }
  const ask = (name: string, request = encodeRequest(name)): Fields =>
    decodeResponse(name, transact(fd, name, request));
  return {
    describe() {
      const fields = ask('DescribeNSM');
      const version = ['major', 'minor', 'patch'].map((part) => fields.number(`version_${part}`)).join('.');
      return {
        moduleId: fields.text('module_id'),
        version,
        maxPcrs: fields.number('max_pcrs'),
        lockedPcrs: fields.numbers('locked_pcrs'),
        digest: fields.text('digest'),
      };
    },
    describePcr(index) {
      const fields = ask('DescribePCR', encodeRequest('DescribePCR', { index }));
      return { locked: fields.flag('lock'), data: fields.bytes('data', PCR_LENGTH, PCR_LENGTH) };
    },
    extendPcr: (index, data) =>
      ask('ExtendPCR', encodeRequest('ExtendPCR', { index, data })).bytes('data', PCR_LENGTH, PCR_LENGTH),
    lockPcr(index) {
      ask('LockPCR', encodeRequest('LockPCR', { index }));
    },
    attestation: (fields) => ask('Attestation', encodeAttestation(fields)).bytes('document', 1, NSM_RESPONSE_MAX),
    random: () => ask('GetRandom').bytes('random', 1, 256),
    close: () => closeSync(fd),
  };
}

/** struct nsm_raw is two iovecs; the driver writes the answer's length into the second. */
function transact(fd: number, name: string, request: Uint8Array): Uint8Array {
  const koffi = loadKoffi();
  const sent = Buffer.from(request);
  const answer = Buffer.allocUnsafeSlow(NSM_RESPONSE_MAX);
  const raw = Buffer.alloc(32);
  raw.writeBigUInt64LE(koffi.address(sent), 0);
  raw.writeBigUInt64LE(BigInt(sent.length), 8);
  raw.writeBigUInt64LE(koffi.address(answer), 16);
  raw.writeBigUInt64LE(BigInt(answer.length), 24);
  const result = libc().ioctl(fd, NSM_IOCTL_RAW, raw);
  if (result < 0) {
    const cause = new SyscallError('ioctl', result);
    throw nsmError(`${name}: ${cause.message}`, cause);
  }
  // Both buffers are used here, so that neither is collected while the kernel has its address.
  const length = Math.min(Number(raw.readBigUInt64LE(24)), sent.length === 0 ? 0 : answer.length);
  return answer.subarray(0, length);
}

import { closeSync, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type AtomaError, missingError } from '../../core/errors.ts';

/**
 * Gramine's attestation device: files of its own under /dev/attestation (libos/src/fs/dev/attestation.c of Gramine 1.9).
 * Under gramine-sgx there are `attestation_type`, `user_report_data` and, where the manifest asks for it, `quote`; under
 * gramine-direct there are none of these.
 */
export interface GramineDevice {
  /** What the manifest's sgx.remote_attestation says; undefined where no SGX is under it. */
  attestationType(): string | undefined;
  /**
   * A quote over these 64 bytes. The device keeps them between the write and the read, for whoever asks next: both happen in
   * one go here, without giving another caller its turn. Takes as long as the machine's quoting service does.
   */
  quote(reportData: Uint8Array): Buffer;
}

export const GRAMINE_DEVICE = 'dev/attestation';
const REPORT_DATA = 64;
/** Gramine's own limits are 8 KiB for a quote and a word for the type. */
const MOST = { quote: 64 << 10, type: 64 };

/** Undefined where there is no such device: this is not Gramine. `root` is the image's root. */
export function findGramine(root = '/'): GramineDevice | undefined {
  const directory = join(root, GRAMINE_DEVICE);
  if (!existsSync(directory)) return undefined;
  const at = (name: string) => join(directory, name);
  return {
    attestationType() {
      try {
        return read(at('attestation_type'), MOST.type).toString('latin1').trim();
      } catch (error) {
        // Only an absence says that there is no SGX; whatever else fails is a device that does not work.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw deviceError('attestation_type', error);
      }
    },
    quote(reportData) {
      if (reportData.length !== REPORT_DATA) throw new TypeError(`report data has ${REPORT_DATA} bytes`);
      attempt('user_report_data', () => write(at('user_report_data'), reportData));
      return attempt('quote', () => read(at('quote'), MOST.quote));
    },
  };
}

/** `ERR_ATTESTER` (exit 5): the device is there and does not do its part. */
export const deviceError = (name: string, cause: unknown): AtomaError => {
  const why = cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : String(cause);
  return missingError('ERR_ATTESTER', `Gramine's /dev/attestation/${name} does not work: ${why}`, {
    cause,
    ...(name === 'quote' ? { hint: 'does the quoting service (aesmd) of this machine run, and reach its PCCS?' } : {}),
  });
};

function attempt<T>(name: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw deviceError(name, error);
  }
}

/** In one write: each is taken as the whole of what to put in. */
function write(path: string, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+');
  try {
    const written = writeSync(fd, bytes);
    if (written !== bytes.length) throw new Error(`expected ${bytes.length} bytes to be taken, found ${written}`);
  } finally {
    closeSync(fd);
  }
}

/** What a file holds is made when it is opened, and its size is not known before. */
function read(path: string, most: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    const into = Buffer.alloc(most + 1);
    let length = 0;
    for (let got = 1; got > 0 && length < into.length; length += got) {
      got = readSync(fd, into, length, into.length - length, null);
    }
    if (length > most) throw new Error(`expected at most ${most} bytes`);
    return into.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

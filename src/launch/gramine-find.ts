import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AtomaError, missingError } from '../core/errors.ts';
import { findProgram, isProgram } from './programs.ts';

/** Where Gramine is and what it can do on this machine. */
export interface GramineWishes {
  /** Directory of an installation: the prefix that has bin/gramine-direct. Default: ATOMA_TEE_GRAMINE, then PATH. */
  gramine?: string | undefined;
  /** The device that says that this machine has SGX; default: Linux's, which is the only one that Gramine 1.9 uses. */
  sgxDevice?: string | undefined;
}

export interface FoundGramine {
  /** `sgx`: a real enclave. `direct`: the same program on the same Gramine without any TEE. */
  mode: 'sgx' | 'direct';
  /** Of gramine-sgx or gramine-direct. */
  program: string;
  version?: string;
  /** The libpal.so that gramine-sgx loads and the CPU measures, where its script says which. */
  libpal?: string;
}

const SGX_DEVICE = '/dev/sgx_enclave';
const MAX_SCRIPT = 1 << 16;

const HOW_TO_INSTALL =
  'install Gramine 1.9 (Debian, Ubuntu: package gramine, of the Gramine project; else from its sources), or name the prefix of an installation with --gramine or ATOMA_TEE_GRAMINE; without it, --tee simulated runs a Nitro image of the same project';

/**
 * gramine-sgx where this machine has an SGX device, else gramine-direct. Throws `ERR_GRAMINE_MISSING` (exit 5): also where there is
 * SGX and no gramine-sgx, because evidence would be simulated without anybody having asked for that.
 */
export function findGramine({ gramine, sgxDevice = SGX_DEVICE }: GramineWishes = {}): FoundGramine {
  const prefix = gramine ?? (process.env.ATOMA_TEE_GRAMINE || undefined);
  const mode = existsSync(sgxDevice) ? 'sgx' : 'direct';
  const name = `gramine-${mode}`;
  const program = prefix === undefined ? findProgram(name) : inPrefix(prefix, name);
  if (program === undefined) {
    const where = [mode === 'sgx' ? 'on a machine with SGX' : '', prefix === undefined ? '' : `in ${prefix}`];
    const what = ["expected Gramine's program", name, ...where].filter((part) => part !== '').join(' ');
    throw missingError('ERR_GRAMINE_MISSING', `${what}, found none`, { hint: HOW_TO_INSTALL });
  }
  const script = readScript(program);
  const version = /^ *echo "Gramine ([0-9A-Za-z.+~-]{1,64}) \(/m.exec(script)?.[1];
  const libpal = /^LIBPAL_PATH=(\/[^\s"'$]+)$/m.exec(script)?.[1];
  return { mode, program, ...(version === undefined ? {} : { version }), ...(libpal === undefined ? {} : { libpal }) };
}

const inPrefix = (prefix: string, name: string): string | undefined =>
  [join(prefix, 'bin', name), join(prefix, name)].find(isProgram);

/** Both are shell scripts (tools/gramine.in of Gramine); of anything else nothing is known. */
function readScript(program: string): string {
  const bytes = readFileSync(program);
  return bytes.length <= MAX_SCRIPT && bytes.toString('latin1', 0, 2) === '#!' ? bytes.toString('utf8') : '';
}

/** `ERR_GRAMINE` (exit 1): Gramine itself failed. */
export const gramineError = (message: string, hint: string): AtomaError =>
  new AtomaError('unexpected', 'ERR_GRAMINE', message, { hint });

import { AtomaError, type EXIT } from '../core/errors.ts';
import { bootError } from './boot-failure.ts';
import type { BootFacts } from './console.ts';

/** What Gramine prints of itself (pal/ and libos/ of 1.9), what it means and what to do about it; the first that fits counts. */
interface Known {
  said: RegExp;
  exit?: keyof typeof EXIT;
  code: `ERR_${string}`;
  means: string;
  hint?: string;
}

const KNOWN: Known[] = [
  {
    said: /Disallowing access to file '|Hash of trusted file '/,
    code: 'ERR_GRAMINE',
    means: 'Gramine kept a file from the program',
    hint: 'the file is no trusted file of the manifest, or not the one that was measured: build the image again',
  },
  {
    // What a program says of such a file: Gramine itself is silent about it, unless loader.log_level is "warning".
    said: /cannot open shared object file|EACCES: permission denied|^\s*path: '/,
    code: 'ERR_GRAMINE',
    means: 'the program could not open a file',
    hint: 'is it among sgx.trusted_files of the manifest? loader.log_level = "warning" makes Gramine name what it keeps from the program',
  },
  {
    said: /AESM service/,
    exit: 'missing',
    code: 'ERR_GRAMINE_AESM',
    means: 'the quoting service of this machine does not do its part',
    hint: 'install and start it (Debian, Ubuntu: packages sgx-aesm-service and libsgx-aesm-quote-ex-plugin; systemctl start aesmd), and set up the PCCS that it asks',
  },
  {
    said: /(open|device).*\/dev\/sgx/i,
    exit: 'missing',
    code: 'ERR_GRAMINE_SGX',
    means: 'Gramine cannot use the SGX device',
    hint: 'may this user open /dev/sgx_enclave and /dev/sgx_provision? (groups sgx and sgx_prv)',
  },
  {
    said: /Enclave initialization IOCTL failed|Initializing enclave failed|sigstruct/i,
    code: 'ERR_GRAMINE',
    means: 'the CPU or Gramine refused the enclave',
    hint: 'is it signed for this libpal.so, and does this CPU have what sgx.cpu_features requires?',
  },
  {
    said: /out of memory|Cannot allocate memory|\bENOMEM\b|bad_alloc|Allocation failed/i,
    exit: 'usage',
    code: 'ERR_ENCLAVE_MEMORY',
    means: 'the enclave ran out of memory',
    hint: 'raise enclave_size under [gramine] in enclave.toml and build again',
  },
  { said: /\berror: /, code: 'ERR_GRAMINE', means: 'Gramine did not get as far as the program' },
];

/** Printed at any end, and about nothing. */
const CHATTER = /^Emulating a raw sys|^Gramine is starting|^-+$|insecure configurations|^ *- /;

/**
 * Explains an end before the program served: `ERR_GRAMINE*`, `ERR_ENCLAVE_MEMORY`, else what `bootError` makes of it. The
 * program's own words about its end count more than Gramine's.
 */
export function gramineBootError(facts: BootFacts, how: string, options: { silent?: boolean } = {}): AtomaError {
  const tail = facts.tail.filter((line) => !CHATTER.test(line));
  const spoke = facts.stage === 'program';
  for (const { said, exit = 'unexpected', code, means, hint } of spoke ? [] : KNOWN) {
    const line = tail.find((text) => said.test(text));
    if (line === undefined) continue;
    const { stage, status } = facts;
    return new AtomaError(exit, code, `${means}: ${line}`, {
      ...(hint === undefined ? {} : { hint }),
      details: { stage, status, console: [...facts.tail] },
    });
  }
  // There is no kernel of its own: it starts where others have their init.
  return bootError({ ...facts, tail, stage: spoke ? 'program' : 'init' }, how, options);
}

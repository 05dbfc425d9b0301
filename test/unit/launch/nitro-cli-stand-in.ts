import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** How the stand-in answers run-enclave. */
export type Behaviour = 'runs' | 'fails' | 'garbage' | 'dies' | 'hangs';

export const ENCLAVE = { id: 'i-0123456789abcdef0-enc0123456789abcde', cid: 4242 };
const RUNNING = JSON.stringify([
  { EnclaveName: 'x', EnclaveID: ENCLAVE.id, EnclaveCID: ENCLAVE.cid, State: 'RUNNING' },
]);
const ANSWER = JSON.stringify(
  {
    EnclaveName: 'x',
    EnclaveID: ENCLAVE.id,
    ProcessID: 1,
    EnclaveCID: ENCLAVE.cid,
    NumberOfCPUs: 2,
    CPUIDs: [1, 3],
    MemoryMiB: 1024,
  },
  null,
  2,
);
/** As nitro-cli 1.5 words it (src/common/mod.rs, construct_error_message). */
export const E26 =
  '[ E26 ] Insufficient memory requested. User provided `memory` is 64 MB, but based on the EIF file size, the minimum memory should be 740 MB';
export const ERROR_LOG = '/var/log/nitro_enclaves/err2026-11-22T00:00:00.log';

/**
 * A script named nitro-cli, for machines that have no enclaves: it records its arguments, one call per line, and answers
 * as the real one would. It says nothing about whether the real one takes these arguments.
 */
export function standIn(directory: string, behaviour: Behaviour): { path: string; calls: () => string[][] } {
  mkdirSync(directory, { recursive: true });
  const record = join(directory, 'calls');
  const run = {
    runs: `echo 'Start allocating memory...' >&2; cat <<'END'\n${ANSWER}\nEND`,
    dies: `cat <<'END'\n${ANSWER}\nEND`,
    hangs: `echo $$ >'${directory}/pid'; echo 'Start allocating memory...'; exec sleep 600`,
    garbage: `echo 'Started enclave with enclave-cid: 4242'; echo '{"EnclaveID": 7'`,
    fails: `echo 'Start allocating memory...' >&2; cat >&2 <<'END'\n${E26}\n\nFor more details, please visit the documentation\n\nIf you open a support ticket, please provide the error log found at "${ERROR_LOG}"\nEND\nexit 26`,
  }[behaviour];
  const script = `#!/bin/sh
(IFS='|'; echo "$*") >> '${record}'
case "$1" in
  run-enclave)
    ${run}
    ;;
  describe-enclaves) echo '${behaviour === 'dies' ? '[]' : RUNNING}' ;;
  console) echo 'init: hello from the console' ;;
  terminate-enclave) echo '{"Terminated": true}' ;;
  *) exit 1 ;;
esac
`;
  const path = join(directory, 'nitro-cli');
  writeFileSync(path, script);
  chmodSync(path, 0o755);
  return {
    path,
    calls: () =>
      existsSync(record)
        ? readFileSync(record, 'utf8')
            .trim()
            .split('\n')
            .map((line) => line.split('|'))
        : [],
  };
}

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { AtomaError, missingError } from '../core/errors.ts';
import { findProgram } from './programs.ts';

/** AWS's tool on the parent instance: runs enclaves, as commands with JSON answers (aws-nitro-enclaves-cli 1.5.0). */
export interface RunRequest {
  eif: string;
  memoryMib: number;
  cpus: number;
  /** Ours, and like no other's: an enclave can be ended by it before its ID is known. */
  name: string;
  debug: boolean;
}

export interface RunningEnclave {
  id: string;
  cid: number;
}

const PROGRAM = 'nitro-cli';
const MOST_OUTPUT = 64 << 10;
const TERMINATE_MS = 60_000;
/** It gives an enclave two minutes to report; beyond that it hangs. */
const RUN_MS = 300_000;

/** Throws `ERR_NITRO_CLI_MISSING` (exit 5). */
export function findNitroCli(): string {
  const path = findProgram(PROGRAM);
  if (path !== undefined) return path;
  throw missingError('ERR_NITRO_CLI_MISSING', `expected AWS's program ${PROGRAM}, found none`, {
    hint: 'on an EC2 instance with enclaves enabled: install aws-nitro-enclaves-cli; elsewhere --tee qemu boots the same image',
  });
}

export const runArguments = ({ eif, memoryMib, cpus, name, debug }: RunRequest): string[] => [
  ...['run-enclave', '--eif-path', eif, '--memory', String(memoryMib), '--cpu-count', String(cpus)],
  ...['--enclave-name', name, ...(debug ? ['--debug-mode'] : [])],
];

/**
 * `nitro-cli run-enclave`. Throws `ERR_NITRO_CLI`: with what it printed where it failed (its "[ E26 ]" codes and the path
 * of its error log among that), where it says nothing for too long, or where its answer is not the one that is known.
 * `signal` kills it: an enclave that it starts later would be nobody's.
 */
export async function runEnclave(
  cli: string,
  request: RunRequest,
  { signal, timeoutMs = RUN_MS }: { signal?: AbortSignal; timeoutMs?: number } = {},
): Promise<RunningEnclave> {
  const { code, stdout, stderr } = await output(
    spawn(cli, runArguments(request), {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      ...(signal ? { signal } : {}),
    }),
  );
  const said = lines(stderr).concat(lines(stdout));
  if (code === null) throw cliError(`run-enclave did not end within ${timeoutMs / 1000} s, or was killed`, said);
  if (code !== 0) throw cliError('run-enclave failed', said);
  const enclave = parseAnswer(stdout);
  if (enclave === null) throw cliError('run-enclave: expected its answer to name EnclaveID and EnclaveCID', said);
  return enclave;
}

/** The answer is a JSON object, behind lines of progress ("Start allocating memory..."), which go to either stream. */
function parseAnswer(text: string): RunningEnclave | null {
  try {
    const answer = JSON.parse(text.slice(Math.max(0, text.indexOf('{')))) as {
      EnclaveID?: unknown;
      EnclaveCID?: unknown;
    };
    const { EnclaveID: id, EnclaveCID: cid } = answer;
    if (typeof id !== 'string' || !/^[\w-]{1,128}$/.test(id)) return null;
    if (typeof cid !== 'number' || !Number.isInteger(cid) || cid < 4 || cid > 0xfffffffe) return null;
    return { id, cid };
  } catch {
    return null;
  }
}

/** Ends an enclave by its ID, or by its name where no ID is known. Synchronous: it also serves while this process exits. */
export function terminateEnclave(cli: string, enclave: { id: string } | { name: string }): void {
  const which = 'id' in enclave ? ['--enclave-id', enclave.id] : ['--enclave-name', enclave.name];
  spawnSync(cli, ['terminate-enclave', ...which], { stdio: 'ignore', timeout: TERMINATE_MS });
}

/** `nitro-cli console`: for enclaves in debug mode only. Ends when the enclave does. */
export const attachConsole = (cli: string, id: string): ChildProcess =>
  spawn(cli, ['console', '--enclave-id', id], { stdio: ['ignore', 'pipe', 'ignore'] });

/** States as `describe-enclaves` gives them, of one enclave; null where it is not listed any more. */
export async function enclaveState(cli: string, id: string): Promise<string | null> {
  const { code, stdout } = await output(spawn(cli, ['describe-enclaves'], { stdio: ['ignore', 'pipe', 'ignore'] }));
  if (code !== 0) return 'UNKNOWN';
  try {
    const all = JSON.parse(stdout) as { EnclaveID?: unknown; State?: unknown }[];
    const state = all.find(({ EnclaveID }) => EnclaveID === id)?.State;
    return state === undefined ? null : String(state);
  } catch {
    return 'UNKNOWN';
  }
}

function cliError(what: string, said: string[]): AtomaError {
  const reason = said.find((line) => /\[ ?E\d+ ?\]/.test(line)) ?? said.at(0) ?? 'it did not say why';
  const [log] = said.flatMap((line) => /error log found at "([^"]+)"/.exec(line)?.[1] ?? []);
  return new AtomaError('unexpected', 'ERR_NITRO_CLI', `${PROGRAM} ${what}: ${reason}`, {
    ...(log === undefined ? {} : { hint: `its error log: ${log}` }),
    details: { console: said.slice(-15) },
  });
}

const lines = (text: string): string[] =>
  text
    .split('\n')
    .map((line) =>
      line
        .replace(/\p{Cc}+/gu, ' ')
        .trim()
        .slice(0, 400),
    )
    .filter((line) => line !== '');

function output(child: ChildProcess): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      if (said[name].length < MOST_OUTPUT) said[name] += text.slice(0, MOST_OUTPUT);
    });
  }
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(cliError('cannot be started', [error.message])));
    child.once('close', (code) => resolve({ code, ...said }));
    // What it started may hold its outputs for ever.
    child.once('exit', (code) => code === null && resolve({ code, ...said }));
  });
}

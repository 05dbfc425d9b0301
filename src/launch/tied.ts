import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { findProgram } from './programs.ts';

const living = new Set<ChildProcess>();
let listening = false;

/**
 * Starts a program that must not outlive this process: it is killed when this process ends for any reason, SIGKILL
 * included (PR_SET_PDEATHSIG, through util-linux's setpriv). It dumps no core: a model may be in its memory (0 would stop
 * files only, 1 stops handlers of the host's as well: core(5)). A session of its own: Ctrl-C is the launcher's to handle.
 *
 * It gets no environment but what finds libraries and writes messages in English.
 */
export function spawnTied(command: string[], options: SpawnOptions): ChildProcess {
  const [setpriv, prlimit] = ['setpriv', 'prlimit'].map(findProgram);
  const ties = [
    ...(setpriv ? [setpriv, '--pdeathsig=KILL', '--'] : []),
    ...(prlimit ? [prlimit, '--core=1:1', '--'] : []),
  ];
  const [file = '', ...args] = [...ties, ...command];
  const child = spawn(file, args, { cwd: '/', detached: true, env: environment(), ...options });
  if (!listening) {
    listening = true;
    process.on('exit', () => {
      for (const left of living) left.kill('SIGKILL');
    });
  }
  living.add(child);
  child.once('close', () => living.delete(child));
  return child;
}

function environment(): NodeJS.ProcessEnv {
  const { PATH = '/usr/bin:/bin', LD_LIBRARY_PATH } = process.env;
  return { PATH, LC_ALL: 'C', ...(LD_LIBRARY_PATH === undefined ? {} : { LD_LIBRARY_PATH }) };
}

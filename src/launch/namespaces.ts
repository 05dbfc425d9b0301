import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type AtomaError, missingError } from '../core/errors.ts';
import { findProgram } from './programs.ts';

/** True for the root of the whole machine, or of a container without user namespaces; not for one that only seems so. */
export const isHostRoot = (): boolean =>
  process.getuid?.() === 0 && /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));

/** Whom the enclave runs as where the launcher is root: no one of consequence ("nobody" on every Linux). */
export const UNPRIVILEGED = 65534;

/**
 * Starts a command as PID 1 of new namespaces, root inside and nobody special outside, with an empty environment.
 * Standard input, output, error and descriptor 3 are pipes.
 *
 * A launcher that is root gives root up first: user 0 of a namespace that maps to user 0 of the host could write to
 * /proc/sys and /sys. The kill signals chain: when the launcher ends for whatever reason, `unshare` gets SIGKILL, and
 * so does PID 1, which ends everything in its namespace.
 *
 * Throws `ERR_NAMESPACES` (exit 5) where util-linux is missing.
 */
export function spawnInNamespaces(command: string[]): ChildProcess {
  const setpriv = [
    tool('setpriv'),
    '--pdeathsig=KILL',
    ...(isHostRoot() ? [`--reuid=${UNPRIVILEGED}`, `--regid=${UNPRIVILEGED}`, '--clear-groups'] : []),
  ];
  // No core dump, not through a handler of the host's either: 0 stops files only, 1 both (core(5), fs/coredump.c). The model
  // is in that memory, and must not reach a disk.
  const prlimit = [tool('prlimit'), '--core=1:1'];
  const unshare = [
    tool('unshare'),
    ...['--user', '--map-root-user', '--mount', '--pid', '--net', '--ipc', '--uts', '--cgroup'],
    ...['--fork', '--kill-child=KILL'],
  ];
  const [file = '', ...args] = [...setpriv, '--', ...prlimit, '--', ...unshare, '--', ...command];
  // A new session: no controlling terminal inside, and Ctrl-C is the launcher's to handle.
  return spawn(file, args, { env: {}, cwd: '/', detached: true, stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
}

function tool(name: string): string {
  const path = findProgram(name);
  if (path !== undefined) return path;
  throw missingError('ERR_NAMESPACES', `the simulated TEE needs the program ${name} of util-linux, and found none`, {
    hint: 'install util-linux (Debian, Ubuntu, Fedora: package util-linux; Alpine: util-linux and setpriv)',
  });
}

/** Settings that forbid user namespaces, and what to do about each. */
const FORBIDDING: [path: string, value: string, mend: string][] = [
  [
    '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
    '1',
    'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0   (Ubuntu 23.10 and later forbid them by default)',
  ],
  ['/proc/sys/user/max_user_namespaces', '0', 'sudo sysctl -w user.max_user_namespaces=15000'],
  ['/proc/sys/kernel/unprivileged_userns_clone', '0', 'sudo sysctl -w kernel.unprivileged_userns_clone=1'],
];

/** The error for a host that does not let us make the namespaces; `said` is what the failing program said. */
export function namespacesError(said: string): AtomaError {
  const mends = FORBIDDING.filter(([path, value]) => sysctl(path) === value).map(([, , mend]) => mend);
  return missingError(
    'ERR_NAMESPACES',
    `the simulated TEE needs user, mount, pid, network, ipc and uts namespaces, and this machine refused: ${said}`,
    {
      hint:
        mends.length > 0
          ? `run: ${mends.join('; ')}`
          : 'inside a container, start it with: --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined',
    },
  );
}

function sysctl(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

/**
 * The program's other role, in a process of its own (`program.mjs start`): becomes the measured command. Nothing of Node
 * and nothing of ours stays: its root is the container's, its user, environment and working directory the measured ones.
 *
 * What holds, for a user other than root and for root alike (no capabilities, none to be gained, a filter on sockets):
 * - no devices but null, zero, full, random, urandom: neither /dev/nsm nor a port to the host, and no mknod;
 * - no vsock: it cannot speak to the host but through the agent (the filter), nor use the agent's stream (close-on-exec);
 * - not the agent's memory nor its /proc entries (ptrace(2): it would need the agent's capabilities);
 * - no way out of its root, no mounts, no module, no signal to another user's processes.
 * What does not hold:
 * - it shares the kernel, the process list, loopback and all memory: it can starve the agent, and a hole in the kernel
 *   is a hole in all of this;
 * - as root it owns what root owns: it may kill the agent and the init's children (which ends the enclave), and change
 *   files of its own root file system;
 * - it is given the model: what it answers is its own affair, and measured as such.
 */
import { accessSync, closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
import { posix } from 'node:path';
import { AtomaError, usageError } from '../core/errors.ts';
import { COMMAND_ROOT, MEASURED_CONFIG_PATH, MODEL_DIRECTORY } from '../core/layout.ts';
import { type CommandRuntime, parseMeasuredConfig } from '../core/measured-config.ts';
import { seccompHeader, seccompProgram } from '../core/seccomp.ts';
import { HOST_SOCKET } from './connect-host.ts';
import { loadKoffi } from './native/koffi.ts';
import { checked, type ProcessCalls, processCalls, SyscallError } from './native/libc.ts';

/** linux/mount.h */
const MS = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8, REMOUNT: 32, BIND: 4096 } as const;
/** linux/prctl.h */
const PR = { SET_SECCOMP: 22, CAPBSET_DROP: 24, SET_NO_NEW_PRIVS: 38, CAP_AMBIENT: 47 } as const;
const CAP_AMBIENT_CLEAR_ALL = 4;
const SECCOMP_MODE_FILTER = 2;
const RLIMIT_CORE = 4;
const EPERM = 1;
const EINVAL = 22;
const SIGNALS = 64;

/** Never returns: the command runs in this process from here on. Ends the process with 126 or 127 where it cannot. */
export function startCommand(): never {
  try {
    const { runtime } = parseMeasuredConfig(readFileSync(`/${MEASURED_CONFIG_PATH}`));
    if (runtime.kind !== 'command') throw usageError('ERR_ENCLAVE_CONFIG', 'expected a command to start');
    become(runtime);
  } catch (error) {
    // System calls on measured paths: nothing in them is secret.
    console.error(`cannot start the command: ${error instanceof Error ? error.message : 'internal error'}`);
    process.exit(error instanceof AtomaError ? 127 : 126);
  }
}

function become(runtime: CommandRuntime): never {
  const calls = processCalls();
  const simulated = statSync(`/${HOST_SOCKET}`, { throwIfNoEntry: false }) !== undefined;
  const maps = { uid: idMap('uid'), gid: idMap('gid') };
  const model = openSync(`/${MODEL_DIRECTORY}`, constants.O_RDONLY | constants.O_DIRECTORY);
  checked('chroot', calls.chroot(`/${COMMAND_ROOT}`));
  process.chdir('/');
  // From inside: whatever links the image holds, nothing outside of it can be covered.
  mountModel(calls, `/proc/self/fd/${model}`, runtime.model);
  closeSync(model);
  process.chdir(runtime.cwd);
  restrict(calls, simulated);
  changeUser(calls, runtime, maps, simulated);
  const file = findProgram(runtime);
  filterSockets(calls);
  for (let signal = 1; signal <= SIGNALS; signal++) calls.defaultSignal(signal);
  checked('sigprocmask', calls.unblockSignals());
  checked('close_range', calls.closeOnExecFrom(3));
  calls.keepStandardStreams();
  throw new SyscallError(`execve ${file}`, calls.execve(file, runtime.argv, runtime.env));
}

function mountModel(calls: ProcessCalls, source: string, target: string): void {
  const flags = MS.BIND | MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC;
  checked(`mount ${target}`, calls.mount(source, target, MS.BIND));
  checked(`mount ${target}`, calls.mount('none', target, flags | MS.REMOUNT));
}

function restrict(calls: ProcessCalls, simulated: boolean): void {
  // 1 byte is no file either, and unlike 0 it is none for a host's handler (core(5)): the model is in that memory.
  checked('setrlimit', calls.setrlimit(RLIMIT_CORE, 1));
  checked('prctl', calls.prctl(PR.SET_NO_NEW_PRIVS, 1));
  for (let capability = 0; ; capability++) {
    const dropped = calls.prctl(PR.CAPBSET_DROP, capability);
    if (dropped === -EINVAL) break;
    // The simulated TEE's launcher has taken the right to do that; it cannot give anything back (no_new_privs).
    if (dropped === -EPERM && simulated) break;
    checked('prctl', dropped);
  }
}

type IdMaps = Record<'uid' | 'gid', (id: number) => boolean>;

/** Whether an id exists in this user namespace (user_namespaces(7)). */
function idMap(kind: 'uid' | 'gid'): (id: number) => boolean {
  const ranges = readFileSync(`/proc/self/${kind}_map`, 'utf8').trim().split('\n');
  const parsed = ranges.map((line) => line.trim().split(/\s+/).map(Number));
  return (id) => parsed.some(([first = 0, , count = 0]) => id >= first && id < first + count);
}

function changeUser(calls: ProcessCalls, { user }: CommandRuntime, maps: IdMaps, simulated: boolean): void {
  const { uid, gid, groups } = user;
  // An ordinary user's simulated TEE has one user and one group.
  const mapped = maps.uid(uid) && maps.gid(gid) && groups.every(maps.gid) && !(simulated && uid === 0);
  if (mapped || !simulated) {
    checked('setgroups', calls.setgroups(groups));
    checked('setgid', calls.setgid(gid));
    checked('setuid', calls.setuid(uid));
    if (process.getuid?.() !== uid || process.getgid?.() !== gid) throw new SyscallError('setuid', EPERM);
  } else if (uid !== 0) {
    console.error(`user ${uid}:${gid} does not exist in this simulated TEE: the command runs as its only user`);
  }
  calls.prctl(PR.CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL);
  checked('capset', calls.dropCapabilities());
}

/** As execvp(3) does it, with the measured PATH. Throws `ERR_ENCLAVE_COMMAND` (exit 2). */
function findProgram({ argv, env, cwd }: CommandRuntime): string {
  const [name = ''] = argv;
  const path = env.find((line) => line.startsWith('PATH='))?.slice(5) ?? '/usr/local/bin:/usr/bin:/bin';
  const candidates = name.includes('/')
    ? [name]
    : path.split(':').map((directory) => posix.join(directory || '.', name));
  for (const candidate of candidates) {
    try {
      const absolute = posix.resolve(cwd, candidate);
      accessSync(absolute, constants.X_OK);
      if (statSync(absolute).isFile()) return absolute;
    } catch {
      // Look further.
    }
  }
  throw usageError(
    'ERR_ENCLAVE_COMMAND',
    `the image has no program ${JSON.stringify(name)} that this user may execute`,
  );
}

/** No vsock, no io_uring, no keyrings: for this thread, which is the one that becomes the command. */
function filterSockets(calls: ProcessCalls): void {
  const program = seccompProgram();
  const { address } = loadKoffi();
  const header = seccompHeader(program, address(program));
  checked('prctl', calls.prctl(PR.SET_SECCOMP, SECCOMP_MODE_FILTER, address(header)));
}

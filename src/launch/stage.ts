/**
 * The stage: a Node process that is PID 1 of the new namespaces. It makes the enclave's world out of the two ramdisks
 * that the launcher streams to it, leaves the host's file system for good, and becomes the image's /init.
 *
 * Nothing of the image is executed before (a) the launcher has measured the whole image and said "go", and (b) the old
 * root is detached, every inherited descriptor is marked to close, capabilities are dropped and the filter is in force.
 *
 * Arguments: one JSON object, `StageOptions`. Standard input: see frames.ts. Descriptor 3: one JSON line per step.
 */
import {
  accessSync,
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { usageError } from '../core/errors.ts';
import { IMAGE_ROOT } from '../core/layout.ts';
import { seccompHeader, seccompProgram } from '../core/seccomp.ts';
import { extractSink } from '../image/cpio-extract.ts';
import { FRAME, readFrames } from './frames.ts';
import { loadSyscalls, MS, PR, type Syscalls } from './syscalls.ts';

export interface StageOptions {
  /** An empty directory of the host, to mount the new root on. */
  root: string;
  /** The one thing of the host that stays visible, as /run/atoma/host.sock. */
  socket: string;
  hostname: string;
}

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom'];
/**
 * What the image keeps inside its user namespace: to mount, chroot, own files, signal, bring up its loopback.
 * Numbers of linux/capability.h: CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_ADMIN, SYS_CHROOT, SYS_ADMIN.
 */
const KEPT_CAPABILITIES = new Set([0, 1, 3, 5, 6, 7, 12, 18, 21]);
const LAST_CAPABILITY = 40;
const SECCOMP_MODE_FILTER = 2;

const report = (message: object): void => {
  writeSync(3, `${JSON.stringify(message)}\n`);
};

async function main(): Promise<void> {
  const options = JSON.parse(process.argv[2] ?? '') as StageOptions;
  const sys = await loadSyscalls();
  report({ step: 'started' });
  makeRoot(sys, options.root);
  report({ step: 'mounted' });
  unpack(options.root);
  report({ step: 'unpacked' });
  furnish(sys, options);
  leaveHost(sys, options);
  confine(sys);
  report({ step: 'init' });
  becomeInit(sys);
}

function makeRoot(sys: Syscalls, root: string): void {
  sys.mount('none', '/', null, MS.REC | MS.PRIVATE, null);
  sys.mount('tmpfs', root, 'tmpfs', MS.NOSUID | MS.NODEV, 'mode=0755,size=90%');
}

/** The ramdisks, one over the other, as the kernel would; returns when the launcher has said "go". */
function unpack(root: string): void {
  let sink: ReturnType<typeof extractSink> | undefined;
  for (const { type, data } of readFrames((into) => readSync(0, into))) {
    if (type === FRAME.data) {
      sink ??= extractSink(root);
      sink.write(data);
    } else if (type === FRAME.end) {
      sink?.end();
      sink?.close();
      sink = undefined;
    }
  }
}

/** What the image cannot mount for itself in here: devices (no mknod), proc and sysfs (refused once the host's are gone). */
function furnish(sys: Syscalls, { root, socket }: StageOptions): void {
  const at = (path: string): string => mountPoint(root, path);
  const dev = at('dev');
  sys.mount('tmpfs', dev, 'tmpfs', MS.NOSUID | MS.NOEXEC, 'mode=0755,size=64k');
  for (const device of DEVICES) {
    writeFileSync(join(dev, device), '');
    sys.mount(`/dev/${device}`, join(dev, device), null, MS.BIND, null);
  }
  for (const [link, target] of [
    ['fd', '/proc/self/fd'],
    ['stdin', '/proc/self/fd/0'],
    ['stdout', '/proc/self/fd/1'],
    ['stderr', '/proc/self/fd/2'],
  ] as const) {
    symlinkSync(target, join(dev, link));
  }
  sys.mount('tmpfs', at('dev/shm'), 'tmpfs', MS.NOSUID | MS.NODEV | MS.NOEXEC, 'mode=1777');
  sys.mount('proc', at('proc'), 'proc', MS.NOSUID | MS.NODEV | MS.NOEXEC, null);
  sys.mount('sysfs', at('sys'), 'sysfs', MS.NOSUID | MS.NODEV | MS.NOEXEC | MS.RDONLY, null);
  sys.mount('tmpfs', at('run'), 'tmpfs', MS.NOSUID | MS.NODEV, 'mode=0755');
  // The file, not its directory: who may mount inside can also make a read-only mount writable.
  const own = join(at('run/atoma'), 'host.sock');
  writeFileSync(own, '');
  sys.mount(socket, own, null, MS.BIND, null);
  // A user namespace inside this one would give back every capability that `confine` drops.
  writeFileSync(join(at('proc'), 'sys/user/max_user_namespaces'), '0');
}

/** A directory of the image's, or a new one; no link is followed, for the host's file system is still around us. */
function mountPoint(root: string, path: string): string {
  let at = root;
  for (const part of join(IMAGE_ROOT, path).split('/')) {
    at = join(at, part);
    const found = lstatSync(at, { throwIfNoEntry: false });
    if (found === undefined) mkdirSync(at);
    else if (!found.isDirectory()) {
      throw usageError('ERR_CPIO_ESCAPE', `archive: expected a directory to mount ${path} on, found a file or link`);
    }
  }
  return at;
}

/** pivot_root(".", ".") puts the old root on top of the new one, whence it is detached (pivot_root(2), NOTES). */
function leaveHost(sys: Syscalls, { root, hostname }: StageOptions): void {
  sys.setHostname(hostname);
  process.chdir(root);
  sys.pivotRoot('.', '.');
  sys.detach('.');
  process.chdir('/');
}

/** Irrevocable: what the image will never be able to do. */
function confine(sys: Syscalls): void {
  sys.closeOnExecFrom(3);
  for (let capability = 0; capability <= LAST_CAPABILITY; capability++) {
    if (!KEPT_CAPABILITIES.has(capability)) sys.prctl(PR.CAPBSET_DROP, capability);
  }
  sys.prctl(PR.SET_NO_NEW_PRIVS, 1);
  const program = seccompProgram();
  sys.prctl(PR.SET_SECCOMP, SECCOMP_MODE_FILTER, seccompHeader(program, sys.address(program)));
}

function becomeInit(sys: Syscalls): void {
  const nothing = openSync(join('/', IMAGE_ROOT, 'dev/null'), 'r');
  sys.dup2(nothing, 0);
  closeSync(nothing);
  // Checked here because a failed execve aborts the process.
  accessSync('/init', constants.X_OK);
  process.execve?.('/init', ['/init'], {});
}

try {
  await main();
} catch (error) {
  const { message, code } = error as NodeJS.ErrnoException;
  report({ step: 'failed', message, code });
  process.exit(71);
}

/**
 * The few Linux system calls that the stage needs and Node has not, through libc (koffi). All are synchronous and run
 * on the calling (main) thread, which is what counts: `prctl` works on a thread, and `execve` keeps the caller's.
 */
export interface Syscalls {
  /** mount(2). Flags: MS below. */
  mount(source: string, target: string, type: string | null, flags: number, data: string | null): void;
  /** umount2(path, MNT_DETACH). */
  detach(path: string): void;
  pivotRoot(newRoot: string, putOld: string): void;
  setHostname(name: string): void;
  /** prctl(2) with one or two plain numbers, or a pointer to bytes as the second. */
  prctl(option: number, a: number, b?: number | Uint8Array): void;
  /** dup2(2) */
  dup2(from: number, to: number): void;
  /** Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11). */
  closeOnExecFrom(first: number): void;
  /** An address that C can be given for these bytes; they must stay referenced. */
  address(bytes: Uint8Array): bigint;
}

/** Flags of mount(2), linux/mount.h. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  REMOUNT: 32,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
} as const;

/** linux/prctl.h */
export const PR = { CAPBSET_DROP: 24, SET_NO_NEW_PRIVS: 38, SET_SECCOMP: 22 } as const;

const MNT_DETACH = 2;
const CLOSE_RANGE_CLOEXEC = 4;
/** asm/unistd_64.h; this toolkit runs on x86-64 only. */
const NR = { pivot_root: 155, close_range: 436 } as const;

/** A system call that failed, by the name of its error: "EPERM". */
export class SyscallError extends Error {
  readonly code: string;
  constructor(call: string, code: string) {
    super(`${call}: ${code}`);
    this.name = 'SyscallError';
    this.code = code;
  }
}

export async function loadSyscalls(): Promise<Syscalls> {
  const { default: koffi } = await import('koffi');
  const { getSystemErrorName } = await import('node:util');
  const libc = koffi.load('libc.so.6');
  const mount = libc.func(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  );
  const umount2 = libc.func('int umount2(const char *target, int flags)');
  const sethostname = libc.func('int sethostname(const char *name, size_t length)');
  const prctl = libc.func('int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');
  const prctlPointer = libc.func(
    'int prctl(int option, unsigned long a, const uint8_t *b, unsigned long c, unsigned long d)',
  );
  const dup2 = libc.func('int dup2(int from, int to)');
  const syscallPaths = libc.func('long syscall(long number, const char *a, const char *b)');
  const syscallNumbers = libc.func('long syscall(long number, unsigned int a, unsigned int b, unsigned int c)');
  const check = (call: string, result: unknown): void => {
    if (Number(result) >= 0) return;
    throw new SyscallError(call, getSystemErrorName(-koffi.errno()));
  };
  return {
    mount: (source, target, type, flags, data) =>
      check(`mount ${type ?? source}`, mount(source, target, type, flags, data)),
    detach: (path) => check(`umount2 ${path}`, umount2(path, MNT_DETACH)),
    pivotRoot: (newRoot, putOld) => check('pivot_root', syscallPaths(NR.pivot_root, newRoot, putOld)),
    setHostname: (name) => check('sethostname', sethostname(name, Buffer.byteLength(name))),
    prctl: (option, a, b = 0) =>
      check(`prctl ${option}`, typeof b === 'number' ? prctl(option, a, b, 0, 0) : prctlPointer(option, a, b, 0, 0)),
    dup2: (from, to) => check('dup2', dup2(from, to)),
    closeOnExecFrom: (first) =>
      check('close_range', syscallNumbers(NR.close_range, first, 0xffffffff, CLOSE_RANGE_CLOEXEC)),
    address: (bytes) => koffi.address(bytes) as bigint,
  };
}

/**
 * The system calls that Node has not, through libc. All run on the calling thread and return at once: descriptors are
 * non-blocking. Plain functions return what the kernel would: a result, or an error's number below zero.
 */
import { getSystemErrorName } from 'node:util';
import { loadKoffi } from './koffi.ts';

export interface Libc {
  read(fd: number, into: Uint8Array): number;
  write(fd: number, bytes: Uint8Array): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array): number;
  listen(fd: number, backlog: number): number;
  /** Without the peer's address; `flags` as of socket's type. */
  accept(fd: number, flags: number): number;
  connect(fd: number, address: Uint8Array): number;
  shutdown(fd: number, how: number): number;
  /** The pending error of a socket (SO_ERROR), as its positive number. */
  socketError(fd: number): number;
  /** Which of `events` (poll(2)) hold now, errors and hang-ups included. */
  pollNow(fd: number, events: number): number;
  /** Sets CLOCK_REALTIME. */
  setClock(milliseconds: number): number;
}

/** What only a starting command needs (command-start.ts). */
export interface ProcessCalls {
  chroot(path: string): number;
  mount(source: string, target: string, flags: number): number;
  /** glibc's: for all threads at once. */
  setgroups(groups: number[]): number;
  setgid(gid: number): number;
  setuid(uid: number): number;
  /** Of the calling thread, which is the one that execve keeps. */
  prctl(option: number, a: number, b?: bigint | number): number;
  /** No capabilities in any of the calling thread's sets. */
  dropCapabilities(): number;
  /** Soft and hard. */
  setrlimit(resource: number, limit: number): number;
  /** SIG_DFL; some signals cannot be set. */
  defaultSignal(signal: number): number;
  unblockSignals(): number;
  /** Marks every descriptor from `first` on close-on-exec (Linux 5.11). */
  closeOnExecFrom(first: number): number;
  /** Lets standard input, output and error outlive execve, blocking: Node has marked them otherwise. */
  keepStandardStreams(): void;
  /** Returns only where it fails. */
  execve(path: string, argv: string[], env: string[]): number;
}

/** errno.h of x86-64. */
export const ERRNO = { EINTR: 4, EAGAIN: 11, EINPROGRESS: 115 } as const;

/** A system call that failed, by the name of its error: "EPERM". */
export class SyscallError extends Error {
  readonly code: string;
  constructor(call: string, errno: number) {
    const code = getSystemErrorName(-Math.abs(errno));
    super(`${call}: ${code}`);
    this.name = 'SyscallError';
    this.code = code;
  }
}

/** The result of a call, or a `SyscallError`. */
export function checked(call: string, result: number): number {
  if (result < 0) throw new SyscallError(call, result);
  return result;
}

let functions: Libc | undefined;

export function libc(): Libc {
  functions ??= bindLibc();
  return functions;
}

/** Binds a function by its C prototype: its result, or an error's number below zero. */
function binder(): (prototype: string) => (...args: unknown[]) => number {
  const koffi = loadKoffi();
  const library = koffi.load('libc.so.6');
  return (prototype) => {
    const call = library.func(prototype);
    return (...args) => {
      const result = Number(call(...args));
      return result < 0 ? -koffi.errno() : result;
    };
  };
}

function bindLibc(): Libc {
  const bind = binder();
  const read = bind('long read(int fd, void *into, size_t length)');
  const write = bind('long write(int fd, const void *bytes, size_t length)');
  const bindSocket = bind('int bind(int fd, const void *address, uint32_t length)');
  const accept = bind('int accept4(int fd, void *address, void *length, int flags)');
  const connect = bind('int connect(int fd, const void *address, uint32_t length)');
  const getsockopt = bind('int getsockopt(int fd, int level, int name, void *value, void *length)');
  const poll = bind('int poll(void *descriptors, unsigned long count, int timeout)');
  const clockSettime = bind('int clock_settime(int clock, const void *time)');
  return {
    read: (fd, into) => read(fd, into, into.length),
    write: (fd, bytes) => write(fd, bytes, bytes.length),
    ioctl: bind('int ioctl(int fd, unsigned long request, void *argument)'),
    socket: bind('int socket(int family, int type, int protocol)'),
    bind: (fd, address) => bindSocket(fd, address, address.length),
    listen: bind('int listen(int fd, int backlog)'),
    accept: (fd, flags) => accept(fd, null, null, flags),
    connect: (fd, address) => connect(fd, address, address.length),
    shutdown: bind('int shutdown(int fd, int how)'),
    socketError(fd) {
      const value = Buffer.alloc(4);
      const length = Buffer.from([4, 0, 0, 0]);
      checked('getsockopt', getsockopt(fd, SOL_SOCKET, SO_ERROR, value, length));
      return value.readInt32LE();
    },
    pollNow(fd, events) {
      // struct pollfd: int fd; short events, revents.
      const descriptor = Buffer.alloc(8);
      descriptor.writeInt32LE(fd, 0);
      descriptor.writeInt16LE(events, 4);
      checked('poll', poll(descriptor, 1, 0));
      return descriptor.readInt16LE(6);
    },
    setClock(milliseconds) {
      // struct timespec: seconds and nanoseconds.
      const time = Buffer.alloc(16);
      time.writeBigInt64LE(BigInt(Math.floor(milliseconds / 1000)), 0);
      time.writeBigInt64LE(BigInt((milliseconds % 1000) * 1e6), 8);
      return clockSettime(CLOCK_REALTIME, time);
    },
  };
}

export function processCalls(): ProcessCalls {
  const bind = binder();
  const mount = bind('int mount(const char *source, const char *target, void *type, unsigned long flags, void *data)');
  const setgroups = bind('int setgroups(size_t count, const void *groups)');
  const prctl = bind('int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');
  const setrlimit = bind('int setrlimit(int resource, const void *limit)');
  const signal = bind('intptr_t signal(int number, intptr_t handler)');
  const sigprocmask = bind('int sigprocmask(int how, const void *set, void *old)');
  const capset = bind('int capset(const void *header, const void *data)');
  const fcntl = bind('int fcntl(int fd, int command, int argument)');
  const closeRange = bind('int close_range(unsigned int first, unsigned int last, int flags)');
  return {
    chroot: bind('int chroot(const char *path)'),
    mount: (source, target, flags) => mount(source, target, null, flags, null),
    setgroups: (groups) => setgroups(groups.length, Buffer.from(Uint32Array.from(groups).buffer)),
    setgid: bind('int setgid(uint32_t gid)'),
    setuid: bind('int setuid(uint32_t uid)'),
    prctl: (option, a, b = 0) => prctl(option, a, b, 0, 0),
    // linux/capability.h: version 3, this thread; effective, permitted and inheritable twice 32 bits, all zero.
    dropCapabilities: () => capset(Buffer.from([0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0]), Buffer.alloc(24)),
    setrlimit(resource, limit) {
      const both = Buffer.alloc(16);
      both.writeBigUInt64LE(BigInt(limit), 0);
      both.writeBigUInt64LE(BigInt(limit), 8);
      return setrlimit(resource, both);
    },
    defaultSignal: (number) => signal(number, 0),
    unblockSignals: () => sigprocmask(SIG_SETMASK, Buffer.alloc(128), null),
    closeOnExecFrom: (first) => closeRange(first, 0xffffffff, CLOSE_RANGE_CLOEXEC),
    keepStandardStreams() {
      for (const fd of [0, 1, 2]) {
        checked('fcntl', fcntl(fd, F_SETFD, 0));
        checked('fcntl', fcntl(fd, F_SETFL, checked('fcntl', fcntl(fd, F_GETFL, 0)) & ~O_NONBLOCK));
      }
    },
    execve(path, argv, env) {
      const execve = bind('int execve(const char *path, const char **argv, const char **env)');
      return execve(path, [...argv, null], [...env, null]);
    },
  };
}

const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const SIG_SETMASK = 2;
const CLOSE_RANGE_CLOEXEC = 4;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const CLOCK_REALTIME = 0;

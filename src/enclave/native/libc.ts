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

function bindLibc(): Libc {
  const koffi = loadKoffi();
  const library = koffi.load('libc.so.6');
  const bind = (prototype: string) => {
    const call = library.func(prototype);
    return (...args: unknown[]): number => {
      const result = Number(call(...args));
      return result < 0 ? -koffi.errno() : result;
    };
  };
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

const SOL_SOCKET = 1;
const SO_ERROR = 4;
const CLOCK_REALTIME = 0;

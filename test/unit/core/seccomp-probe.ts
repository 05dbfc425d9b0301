/** Puts itself under the filter and prints what a few system calls answer. */
import koffi from 'koffi';
import { seccompHeader, seccompProgram } from '../../../src/core/seccomp.ts';
import { loadSyscalls, PR } from '../../../src/launch/syscalls.ts';

const sys = await loadSyscalls();
const syscall = koffi.load('libc.so.6').func('long syscall(long number, long a, long b, long c)');
const outcome = (number: number, ...args: [number, number, number]) =>
  Number(syscall(number, ...args)) >= 0 ? 'ok' : `errno ${koffi.errno()}`;
sys.prctl(PR.SET_NO_NEW_PRIVS, 1);
const program = seccompProgram();
sys.prctl(PR.SET_SECCOMP, 2, seccompHeader(program, sys.address(program)));
const STREAM = 1;
console.log(
  JSON.stringify({
    unix: outcome(41, 1, STREAM, 0),
    inet: outcome(41, 2, STREAM, 0),
    inet6: outcome(41, 10, STREAM, 0),
    netlink: outcome(41, 16, 3, 0),
    vsock: outcome(41, 40, STREAM, 0),
    packet: outcome(41, 17, 3, 0),
    alg: outcome(41, 38, 5, 0),
    ioUring: outcome(425, 1, 0, 0),
    // KEYCTL_GET_KEYRING_ID of the user's keyring
    keyctl: outcome(250, 0, -4, 0),
    x32Socket: outcome(0x40000000 + 41, 40, STREAM, 0),
    getpid: outcome(39, 0, 0, 0),
  }),
);

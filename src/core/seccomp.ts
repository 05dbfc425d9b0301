/**
 * The system-call filter under which an image runs in the simulated TEE, and a command in any enclave. Namespaces isolate file systems, processes
 * and the network, but not these ways out, which the filter closes:
 * - sockets of other families than UNIX, IP and netlink: AF_VSOCK reaches the hypervisor whatever the network namespace;
 * - io_uring, whose IORING_OP_SOCKET makes sockets that no filter sees;
 * - the kernel's keyrings, which belong to users and not to namespaces;
 * - the 32-bit and x32 entry points, where the same calls have other numbers.
 *
 * Classic BPF over `struct seccomp_data` (linux/seccomp.h, linux/filter.h).
 */

/** asm/unistd_64.h */
const NR = { socket: 41, add_key: 248, request_key: 249, keyctl: 250, io_uring_setup: 425 } as const;
const AUDIT_ARCH_X86_64 = 0xc000003e;
const X32_BIT = 0x40000000;
const FAMILIES = { UNIX: 1, INET: 2, INET6: 10, NETLINK: 16 } as const;

/** errno-base.h, errno.h: what a kernel built without the thing would answer. */
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

const RET_ALLOW = 0x7fff0000;
const RET_ERRNO = 0x00050000;

/** Offsets in struct seccomp_data. */
const DATA = { nr: 0, arch: 4, firstArgument: 16 } as const;

/** BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGE|BPF_K, BPF_RET|BPF_K */
const OP = { load: 0x20, equal: 0x15, atLeast: 0x35, ret: 0x06 } as const;

type Instruction = [code: number, ifTrue: number, ifFalse: number, k: number];

const load = (offset: number): Instruction => [OP.load, 0, 0, offset];
const ret = (value: number): Instruction => [OP.ret, 0, 0, value];
/** Skips the next instruction unless the accumulator equals k. */
const when = (k: number): Instruction => [OP.equal, 0, 1, k];

/** The program as an array of `struct sock_filter` (8 bytes each, little-endian). */
export function seccompProgram(): Buffer {
  const refused = ret(RET_ERRNO | ENOSYS);
  const program: Instruction[] = [
    load(DATA.arch),
    [OP.equal, 1, 0, AUDIT_ARCH_X86_64],
    refused,
    load(DATA.nr),
    [OP.atLeast, 0, 1, X32_BIT],
    refused,
    ...[NR.io_uring_setup, NR.add_key, NR.request_key, NR.keyctl].flatMap((nr) => [when(nr), refused]),
    [OP.equal, 1, 0, NR.socket],
    ret(RET_ALLOW),
    load(DATA.firstArgument),
    ...Object.values(FAMILIES).flatMap((family) => [when(family), ret(RET_ALLOW)]),
    ret(RET_ERRNO | EAFNOSUPPORT),
  ];
  const bytes = Buffer.alloc(program.length * 8);
  for (const [i, [code, ifTrue, ifFalse, k]] of program.entries()) {
    bytes.writeUInt16LE(code, i * 8);
    bytes.writeUInt8(ifTrue, i * 8 + 2);
    bytes.writeUInt8(ifFalse, i * 8 + 3);
    bytes.writeUInt32LE(k, i * 8 + 4);
  }
  return bytes;
}

/** `struct sock_fprog`: the number of instructions and where they are. */
export function seccompHeader(program: Uint8Array, address: bigint): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt16LE(program.length / 8, 0);
  header.writeBigUInt64LE(address, 8);
  return header;
}

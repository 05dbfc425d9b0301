import { execFile } from 'node:child_process';
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AtomaError, missingError } from '../core/errors.ts';
import { findProgram, isProgram } from './programs.ts';

export type QemuMachine = 'microvm' | 'nitro-enclave';
export type QemuAccel = 'kvm' | 'tcg';

export interface FoundQemu {
  path: string;
  /** "7.2.22" */
  version: string;
  machine: QemuMachine;
  /** To try, the best first. */
  accels: QemuAccel[];
  /** Path of vhost-device-vsock, where the machine needs it. */
  vhostVsock?: string;
  /** A folder with the firmware, where QEMU does not know of any. */
  firmware?: string;
  /** True where the build can confine itself by a system-call filter. */
  sandbox: boolean;
}

export interface QemuWishes {
  machine?: QemuMachine | undefined;
  accel?: QemuAccel | undefined;
}

const PROGRAM = 'qemu-system-x86_64';
const DAEMON = 'vhost-device-vsock';
/** What microvm, and nitro-enclave which is made of it, boot by. */
const FIRMWARE = ['bios-microvm.bin', 'qboot.rom'];
const FIRMWARE_FOLDERS = ['/usr/share/qemu', '/usr/share/qemu-firmware', '/usr/share/seabios', '/usr/local/share/qemu'];
/** Of a question to QEMU, which may be anything: SIGTERM can be ignored. */
const PROBE = { timeout: 20_000, killSignal: 'SIGKILL' } as const;
const run = promisify(execFile);

/**
 * The best QEMU there is: one with the machine nitro-enclave and a vhost-device-vsock daemon boots the EIF itself, any
 * other boots its parts in a microvm. `ATOMA_TEE_QEMU` and `ATOMA_TEE_VHOST_VSOCK` name programs outside of PATH.
 * Throws `ERR_QEMU_MISSING` (exit 5) where a wish cannot be met, `ERR_QEMU` where a program is not what it should be.
 */
export async function findQemu({ machine, accel }: QemuWishes = {}): Promise<FoundQemu> {
  const path = named('ATOMA_TEE_QEMU') ?? findProgram(PROGRAM);
  if (path === undefined) {
    throw missingError('ERR_QEMU_MISSING', `expected the program ${PROGRAM}, found none`, {
      hint: 'install it (Debian, Ubuntu: apt-get install qemu-system-x86), or name it with ATOMA_TEE_QEMU',
    });
  }
  const [version, machines, folders, sandbox] = await Promise.all([
    said(path, '-version').then((text) => /version (\d+\.\d+\.\d+)/.exec(text)?.[1]),
    said(path, '-M', 'help'),
    said(path, '-L', 'help'),
    run(path, ['-sandbox', 'on', '-M', 'help'], PROBE).then(
      () => true,
      () => false,
    ),
  ]);
  if (version === undefined) throw qemuError(`expected ${path} to be QEMU, and it names no version`);
  const vhostVsock = named('ATOMA_TEE_VHOST_VSOCK') ?? findProgram(DAEMON);
  const chosen = chooseMachine(machine, { path, machines, vhostVsock });
  return {
    path,
    version,
    machine: chosen,
    accels: chooseAccels(accel),
    ...(chosen === 'nitro-enclave' && vhostVsock !== undefined ? { vhostVsock } : {}),
    ...findFirmware(folders),
    sandbox,
  };
}

export const qemuError = (message: string, details?: Record<string, unknown>): AtomaError =>
  new AtomaError('unexpected', 'ERR_QEMU', message, details === undefined ? {} : { details });

/** A program that a variable of the environment names. */
function named(variable: string): string | undefined {
  const path = process.env[variable];
  if (path === undefined || path === '') return undefined;
  if (path.startsWith('/') && isProgram(path)) return path;
  throw missingError('ERR_QEMU_MISSING', `${variable}: expected the absolute path of a program, found "${path}"`);
}

function chooseMachine(
  wish: QemuMachine | undefined,
  { path, machines, vhostVsock }: { path: string; machines: string; vhostVsock: string | undefined },
): QemuMachine {
  const has = (machine: QemuMachine) => new RegExp(`^${machine}\\s`, 'm').test(machines);
  const hint = 'docs/nitro.md says how to get a QEMU with it, and the daemon; --machine microvm needs neither';
  if (wish !== 'microvm' && has('nitro-enclave') && vhostVsock !== undefined) return 'nitro-enclave';
  if (wish === 'nitro-enclave') {
    const [lacking, instead] = has('nitro-enclave')
      ? [`the program ${DAEMON}`, 'none']
      : ['a QEMU with the machine nitro-enclave', path];
    throw missingError('ERR_QEMU_MISSING', `expected ${lacking}, found ${instead}`, { hint });
  }
  if (has('microvm')) return 'microvm';
  throw missingError('ERR_QEMU_MISSING', `expected a QEMU with the machine microvm, and ${path} has none`, {
    hint: 'Debian, Ubuntu: apt-get install qemu-system-x86',
  });
}

function chooseAccels(wish: QemuAccel | undefined): QemuAccel[] {
  if (wish === 'tcg') return ['tcg'];
  const usable = kvmOpens();
  if (wish === undefined) return usable ? ['kvm', 'tcg'] : ['tcg'];
  if (usable) return ['kvm'];
  throw missingError('ERR_QEMU_MISSING', 'expected a /dev/kvm that this user can open, found none', {
    hint: 'add the user to the group of /dev/kvm (usually "kvm"), or use --accel tcg, which is slower',
  });
}

export function kvmOpens(): boolean {
  try {
    closeSync(openSync('/dev/kvm', constants.O_RDWR));
    return true;
  } catch {
    return false;
  }
}

/** QEMUs that were built by hand often come without it. `folders`: what `-L help` prints. */
function findFirmware(folders: string): { firmware?: string } {
  const holds = (folder: string) => FIRMWARE.some((name) => existsSync(join(folder, name)));
  if (folders.split('\n').some((folder) => folder !== '' && holds(folder))) return {};
  const firmware = FIRMWARE_FOLDERS.find(holds);
  if (firmware !== undefined) return { firmware };
  throw missingError('ERR_QEMU_MISSING', `expected QEMU's firmware (${FIRMWARE.join(' or ')}), found none`, {
    hint: 'Debian, Ubuntu: apt-get install qemu-system-data seabios',
  });
}

async function said(path: string, ...args: string[]): Promise<string> {
  try {
    return (await run(path, args, PROBE)).stdout;
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string };
    throw qemuError(`expected ${path} to answer ${args.join(' ')}: ${(stderr || message).trim().split('\n')[0]}`);
  }
}

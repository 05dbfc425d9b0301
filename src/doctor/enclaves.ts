import { execFile } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { findTools } from '../kernel/tools.ts';
import { findGramine } from '../launch/gramine-find.ts';
import { findNitroCli } from '../launch/nitro-cli.ts';
import { findQemu, kvmOpens } from '../launch/qemu-find.ts';
import { missing, no, type Outcome, ok, type Probe } from './finding.ts';

/** Where Linux tells of the machine; a directory of a test's own otherwise. */
export interface Places {
  /** Before "/dev/...", "/proc/...", "/sys/...", "/var/...". */
  root: string;
}

/** Booting Nitro images, here or on AWS. */
export const nitroProbes = (places: Places): Probe[] => [
  {
    id: 'qemu',
    name: 'QEMU',
    for: 'run --tee qemu: boots the image, kernel and all',
    async look() {
      const { version, machine, sandbox } = await findQemu();
      return ok(`${version}, machine ${machine}${sandbox ? '' : ', without a sandbox'}`);
    },
  },
  {
    id: 'qemu-nitro-enclave',
    name: 'nitro-enclave',
    for: 'run --tee qemu: boots the EIF itself, with an NSM',
    async look() {
      const { version, vhostVsock } = await findQemu({ machine: 'nitro-enclave' });
      return ok(`QEMU ${version}, ${vhostVsock}`);
    },
  },
  {
    id: 'kvm',
    name: 'KVM',
    for: 'run --tee qemu at full speed; without it QEMU emulates',
    look: () => kvm(existsSync('/dev/kvm'), kvmOpens()),
  },
  {
    id: 'nitro-cli',
    name: 'nitro-cli',
    for: 'run --tee nitro: a real enclave of an EC2 instance',
    async look() {
      const cli = findNitroCli();
      const { stdout } = await promisify(execFile)(cli, ['--version'], { timeout: 10_000, killSignal: 'SIGKILL' });
      return ok(`${stdout.trim().split('\n')[0] || 'version unknown'}, ${cli}`);
    },
  },
  {
    id: 'nitro-device',
    name: 'Nitro host',
    for: 'run --tee nitro: the device of an EC2 instance with enclaves enabled',
    look: () => device(places, '/dev/nitro_enclaves', 'an EC2 instance started with enclaves enabled has it'),
  },
  {
    id: 'nsm',
    name: 'Nitro enclave',
    for: 'evidence of Nitro: this device is inside of an enclave only',
    look: () => device(places, '/dev/nsm', undefined),
  },
  {
    id: 'kernel-tools',
    name: 'kernel tools',
    for: 'nitro kernel: compiles the small kernel',
    async look() {
      const { gcc } = await findTools();
      return ok(gcc.replace(/ \(.*\)/, ''));
    },
  },
];

/** Confidential computing in processors. */
export const processorProbes = (places: Places): Probe[] => [
  {
    id: 'gramine',
    name: 'Gramine',
    for: 'run --tee gramine; build --target gramine takes its two libraries',
    look() {
      const { version = 'version unknown', mode, program } = findGramine();
      return ok(`${version}, ${program}${mode === 'direct' ? ' (no SGX here: without any TEE)' : ''}`);
    },
  },
  { id: 'sgx', name: 'SGX', for: 'run --tee gramine: a real SGX enclave', look: () => sgx(places) },
  {
    id: 'sgx-quotes',
    name: 'SGX quotes',
    for: 'evidence of SGX: provisioning device and the socket of aesmd',
    look: () => sgxQuotes(places),
  },
  {
    id: 'tdx',
    name: 'TDX guest',
    for: 'evidence of TDX is verified anywhere; nothing is launched in one yet',
    look: () => guest(places, '/dev/tdx_guest', ['tdx_guest']),
  },
  {
    id: 'snp',
    name: 'SEV-SNP guest',
    for: 'evidence of SEV-SNP is verified anywhere; nothing is launched in one yet',
    look: () => guest(places, '/dev/sev-guest', ['sev_snp']),
  },
];

export function kvm(there: boolean, opens: boolean): Outcome {
  if (opens) return ok('/dev/kvm');
  return there
    ? missing('/dev/kvm is not for this user', 'add the user to the group of /dev/kvm (usually "kvm")')
    : no('no /dev/kvm', 'a processor with virtualisation, or a virtual machine that is given it');
}

function device({ root }: Places, path: string, mend: string | undefined): Outcome {
  if (!existsSync(root + path)) return no(`no ${path}`, mend);
  return opens(root + path)
    ? ok(path)
    : missing(`${path} is not for this user`, `add the user to the group of ${path}`);
}

function sgx(places: Places): Outcome {
  const path = '/dev/sgx_enclave';
  if (existsSync(places.root + path)) return device(places, path, undefined);
  const flags = cpuFlags(places);
  if (!flags.has('sgx'))
    return no('the processor shows no SGX', 'an Intel server processor with SGX enabled in its firmware');
  return missing(
    `the processor has SGX, but there is no ${path}`,
    'a kernel from 5.11 on, with SGX enabled in the firmware',
  );
}

function sgxQuotes(places: Places): Outcome {
  if (!existsSync(`${places.root}/dev/sgx_enclave`)) return no('no SGX here');
  const provision = device(places, '/dev/sgx_provision', undefined);
  if (provision.status !== 'ok') return provision;
  const socket = '/var/run/aesmd/aesm.socket';
  if (existsSync(places.root + socket)) return ok(`/dev/sgx_provision, ${socket}`);
  return missing(`no ${socket}`, "install and start Intel's aesmd (package sgx-aesm-service, of Intel)");
}

function guest(places: Places, path: string, flags: string[]): Outcome {
  if (existsSync(places.root + path)) return device(places, path, undefined);
  const shown = flags.filter((flag) => cpuFlags(places).has(flag));
  return no(shown.length > 0 ? `the processor shows ${shown.join(', ')}, but there is no ${path}` : `no ${path}`);
}

function opens(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}

/** The first processor's: all are alike. */
function cpuFlags({ root }: Places): Set<string> {
  try {
    const text = readFileSync(`${root}/proc/cpuinfo`, 'latin1');
    return new Set(/^flags\s*:\s*(.*)$/m.exec(text)?.[1]?.split(' ') ?? []);
  } catch {
    return new Set();
  }
}

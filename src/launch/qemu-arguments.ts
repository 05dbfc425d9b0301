import { readFileSync } from 'node:fs';
import type { FoundQemu, QemuAccel } from './qemu-find.ts';

/** What a virtual machine boots: an EIF (nitro-enclave), or its parts (microvm). */
export type BootFiles = { eif: string } | { kernel: string; initrd: string; cmdline: string };

export interface MachinePlan {
  qemu: FoundQemu;
  accel: QemuAccel;
  memoryMib: number;
  cpus: number;
  boot: BootFiles;
  /** How the kernel finds devices: by ACPI tables (Debian's), else by its command line. */
  acpi: boolean;
  /** Unix socket: of our listener (microvm), or of the vsock daemon (nitro-enclave). */
  socket: string;
}

/** Name of the virtio-serial port between a virtual machine and its launcher: src/core/layout.ts. */
import { HOST_PORT_NAME } from '../core/layout.ts';

/**
 * QEMU's command line, the program first. The machine has a console, a channel to its launcher and (microvm) a source of
 * random numbers: no network, no disk, no file of the host's, no monitor.
 */
export function qemuArguments(plan: MachinePlan): string[] {
  const { qemu, accel, memoryMib, cpus, boot, acpi, socket } = plan;
  const machine =
    'eif' in boot
      ? `nitro-enclave,vsock=channel,acpi=${onOff(acpi)}`
      : // What a Nitro enclave has not either: interrupt controllers and timers of the first PCs stay where ACPI does not replace them.
        `microvm,acpi=${onOff(acpi)},rtc=on`;
  return [
    qemu.path,
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...(qemu.sandbox ? ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'] : []),
    ...(qemu.firmware === undefined ? [] : ['-L', qemu.firmware]),
    ...['-machine', `${machine},dump-guest-core=off`],
    ...['-accel', accel, '-cpu', cpuModel(plan), '-smp', String(cpus), '-m', `${memoryMib}M`],
    ...('eif' in boot ? ['-kernel', boot.eif] : ['-kernel', boot.kernel, '-initrd', boot.initrd]),
    ...['-append', appended(plan)],
    ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
    ...['-chardev', `socket,id=channel,path=${socket}`],
    ...('eif' in boot
      ? []
      : [
          ...['-device', 'virtio-serial-device', '-device', `virtserialport,chardev=channel,name=${HOST_PORT_NAME}`],
          ...['-object', 'rng-random,id=random,filename=/dev/urandom', '-device', 'virtio-rng-device,rng=random'],
        ]),
  ];
}

const onOff = (on: boolean): string => (on ? 'on' : 'off');

/**
 * The emulated cmpxchg16b of QEMU 7.2 loses the flags when several processors run: two boots of six of Debian's kernel
 * died of it, none of six without the instruction. Later versions are spared: images may be compiled for x86-64-v2.
 */
function cpuModel({ qemu, accel, cpus }: MachinePlan): string {
  if (accel === 'kvm') return 'host';
  return Number.parseInt(qemu.version, 10) < 8 && cpus > 1 ? 'max,-cx16' : 'max';
}

/**
 * What a launcher adds to the command line is NOT measured, by a real Nitro hypervisor as little as here: nothing that an
 * image relies on may come from it. These say how to end (reset by triple fault, at once after a panic, which QEMU turns
 * into its own end) and, where nothing is as fast as a timer says, how fast the processor is: calibration by timers under
 * TCG hangs now and then on a busy host.
 */
function appended({ accel, boot }: MachinePlan): string {
  const own = 'eif' in boot ? [] : [boot.cmdline];
  const speed = accel === 'tcg' ? tscKhz() : undefined;
  return [...own, 'reboot=t', 'panic=-1', ...(speed === undefined ? [] : [`tsc_early_khz=${speed}`])].join(' ');
}

/** TCG lends the host's time stamp counter: its rate is in the model's name where there is one, else about the clock rate. */
function tscKhz(): number | undefined {
  try {
    const info = readFileSync('/proc/cpuinfo', 'utf8');
    const [, ghz] = /^model name\s*:.*@ (\d+\.\d+)GHz/m.exec(info) ?? [];
    if (ghz !== undefined) return Math.round(Number(ghz) * 1e6);
    const [, mhz] = /^cpu MHz\s*:\s*(\d+\.\d+)/m.exec(info) ?? [];
    return mhz === undefined ? undefined : Math.round(Number(mhz) * 1e3);
  } catch {
    return undefined;
  }
}

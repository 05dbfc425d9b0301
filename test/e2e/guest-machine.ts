import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileSource, parseEif } from '../../src/nitro/index.ts';

/** A virtual machine that boots an image to see what the program in it prints. */
export interface Machine {
  /** Waits for a line that holds this; rejects with the console's tail where the machine ends before. */
  line(part: string): Promise<string>;
  /** Resolves with every line when the machine has ended. */
  ended: Promise<string[]>;
  stop(): void;
}

/** Ends a kernel that cannot calibrate its clock, or not reset, in a machine that is emulated. */
const APPEND = 'reboot=t panic=-1';
const EMULATED = 'tsc_early_khz=2600000';

export const acceleratorArgs = (accel: 'kvm' | 'tcg'): string[] =>
  // One processor: with two, QEMU 7.2's emulation now and then breaks the kernel's patching of itself.
  accel === 'kvm'
    ? ['-accel', 'kvm', '-cpu', 'host', '-smp', '2']
    : ['-accel', 'tcg,thread=single', '-cpu', 'max', '-smp', '1'];

/** From nothing to our init: several times what it takes on a busy machine. */
const BOOT_MS = 60_000;
const ATTEMPTS = 8;

/**
 * A machine whose kernel got as far as our program, on hardware where that works: some nested hosts offer /dev/kvm and then
 * fail within it. QEMU 7.2's emulation now and then corrupts a 6.12 kernel while it boots, or hangs (QEMU 10's does not); that
 * is not what is tested here, so another machine is tried.
 */
export async function bootBest(boot: (accel: 'kvm' | 'tcg') => Promise<Machine>): Promise<Machine> {
  let why: unknown;
  for (let attempt = existsSync('/dev/kvm') ? 0 : 1; attempt <= ATTEMPTS; attempt++) {
    const machine = await boot(attempt === 0 ? 'kvm' : 'tcg');
    const timer = setTimeout(machine.stop, BOOT_MS);
    try {
      await machine.line('init: stage program');
      return machine;
    } catch (error) {
      why = error;
      await machine.ended;
    } finally {
      clearTimeout(timer);
    }
  }
  throw why;
}

/** QEMU's microvm with the parts of an EIF, as our own reader finds them. `port` becomes the virtio-serial port. */
export async function bootMicrovm(eif: string, dir: string, accel: 'kvm' | 'tcg', port: string): Promise<Machine> {
  const source = await fileSource(eif);
  const { sections } = await parseEif(source);
  await source.close();
  const bytes = readFileSync(eif);
  const part = (type: string) =>
    Buffer.concat(
      sections.filter((s) => s.type === type).map(({ offset, size }) => bytes.subarray(offset, offset + size)),
    );
  for (const type of ['kernel', 'ramdisk']) writeFileSync(join(dir, type), part(type));
  return startMachine('qemu-system-x86_64', [
    ...['-M', 'microvm', ...acceleratorArgs(accel), '-m', '768M', '-nodefaults', '-no-reboot'],
    ...['-display', 'none', '-serial', 'stdio', '-kernel', join(dir, 'kernel'), '-initrd', join(dir, 'ramdisk')],
    ...['-append', `${part('cmdline')} ${APPEND}${accel === 'tcg' ? ` ${EMULATED}` : ''}`],
    ...['-device', 'virtio-serial-device', '-chardev', `socket,id=ch,path=${port},server=on,wait=off`],
    ...['-device', 'virtserialport,chardev=ch,name=atoma.0'],
  ]);
}

/** The EIF itself in a QEMU with `-M nitro-enclave`; `uds` is where vhost-device-vsock meets the host. */
export async function bootNitro(eif: string, dir: string, accel: 'kvm' | 'tcg', uds: string): Promise<Machine> {
  const { ATOMA_TEE_QEMU_NITRO = '', ATOMA_TEE_VHOST_VSOCK = '' } = process.env;
  const vhost = join(dir, 'vhost.sock');
  const backend = spawn(ATOMA_TEE_VHOST_VSOCK, ['--guest-cid', '4', '--socket', vhost, '--uds-path', uds], {
    stdio: 'ignore',
  });
  while (!existsSync(vhost)) await sleep(20);
  const machine = startMachine(ATOMA_TEE_QEMU_NITRO, [
    ...['-L', '/usr/share/qemu', '-M', 'nitro-enclave,vsock=c,id=i-abc-enc1,acpi=on', ...acceleratorArgs(accel)],
    ...['-m', '768M', '-nographic', '-monitor', 'none', '-no-reboot', '-kernel', eif],
    ...['-append', `${APPEND}${accel === 'tcg' ? ` ${EMULATED}` : ''}`, '-chardev', `socket,id=c,path=${vhost}`],
  ]);
  void machine.ended.finally(() => backend.kill('SIGKILL'));
  return machine;
}

function startMachine(qemu: string, args: string[]): Machine {
  const child = spawn(qemu, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const hear = (line: string) => {
    lines.push(line);
    for (const look of waiting) look();
    // It stops there and waits for a debugger.
    if (line.includes('KVM internal error')) child.kill('SIGKILL');
  };
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', hear);
  const ended = new Promise<string[]>((resolve) => child.once('close', () => resolve(lines)));
  const over = ended.then(() => {
    throw new Error(`the machine ended:\n${lines.slice(-30).join('\n')}`);
  });
  over.catch(() => {});
  return {
    ended,
    stop: () => endProcess(child),
    line(part) {
      const { promise, resolve } = Promise.withResolvers<string>();
      const look = () => {
        const found = lines.find((line) => line.includes(part));
        if (found !== undefined) resolve(found);
      };
      waiting.add(look);
      look();
      return Promise.race([promise, over]).finally(() => waiting.delete(look));
    },
  };
}

const endProcess = (child: ChildProcess): void => void child.kill('SIGKILL');

/** Connects to a UNIX socket, as soon as somebody listens. */
export async function connectWhenThere(path: string): Promise<Socket> {
  for (;;) {
    const socket = createConnection({ path, allowHalfOpen: true });
    const connected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    if (connected) return socket;
    await sleep(50);
  }
}

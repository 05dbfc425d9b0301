import { describe, expect, test } from 'vitest';
import { requiredMemoryMib } from '../../../src/launch/memory.ts';
import { type MachinePlan, qemuArguments } from '../../../src/launch/qemu-arguments.ts';

const qemu: MachinePlan['qemu'] = {
  path: '/usr/bin/qemu-system-x86_64',
  version: '7.2.22',
  machine: 'microvm',
  accels: ['tcg'],
  sandbox: true,
};
const plan: MachinePlan = {
  qemu,
  accel: 'tcg',
  memoryMib: 1024,
  cpus: 2,
  acpi: true,
  boot: { kernel: '/r/kernel', initrd: '/r/initrd', cmdline: 'console=ttyS0 quiet' },
  socket: '/r/channel0',
};
const following = (args: string[], flag: string) => args[args.indexOf(flag) + 1] ?? '';

describe.each([
  ['microvm', plan],
  [
    'nitro-enclave',
    {
      ...plan,
      qemu: { ...qemu, version: '10.0.13', machine: 'nitro-enclave' as const },
      boot: { eif: '/r/image.eif' },
    },
  ],
])('%s', (machine, of) => {
  const args = qemuArguments(of as MachinePlan);

  test('no network, no disk, no host file system, no monitor, no configuration of the host’s', () => {
    expect(args).toEqual(expect.arrayContaining(['-nodefaults', '-no-user-config', '-no-reboot']));
    const flags = new Set(args.slice(1).filter((word) => /^-[a-z]/i.test(word)));
    const known =
      '-nodefaults -no-user-config -display -no-reboot -sandbox -machine -accel -cpu -smp -m -kernel -append -chardev -serial';
    const parts = machine === 'microvm' ? ['-initrd', '-device', '-object'] : [];
    expect([...flags].sort()).toEqual([...known.split(' '), ...parts].sort());
    const devices = args.filter((_, i) => args[i - 1] === '-device').map((device) => device.split(',')[0]);
    expect(devices).toEqual(
      machine === 'microvm' ? ['virtio-serial-device', 'virtserialport', 'virtio-rng-device'] : [],
    );
  });

  test('confined by a filter where the build has one', () => {
    expect(following(args, '-sandbox')).toBe('on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny');
    expect(qemuArguments({ ...(of as MachinePlan), qemu: { ...qemu, sandbox: false } })).not.toContain('-sandbox');
  });

  test('the machine, its memory and processors', () => {
    expect(following(args, '-machine')).toMatch(new RegExp(`^${machine},.*acpi=on.*,dump-guest-core=off$`));
    expect([following(args, '-m'), following(args, '-smp'), following(args, '-accel')]).toEqual(['1024M', '2', 'tcg']);
  });
});

test('the image’s own command line comes first, whole; what is added is how to end', () => {
  expect(following(qemuArguments(plan), '-append')).toMatch(
    /^console=ttyS0 quiet reboot=t panic=-1( tsc_early_khz=\d+)?$/,
  );
  expect(following(qemuArguments({ ...plan, accel: 'kvm' }), '-append')).toBe('console=ttyS0 quiet reboot=t panic=-1');
});

test('no cmpxchg16b where QEMU 7 would emulate it for several processors', () => {
  const cpu = (version: string, cpus: number) =>
    following(qemuArguments({ ...plan, cpus, qemu: { ...qemu, version } }), '-cpu');
  expect([cpu('7.2.22', 2), cpu('7.2.22', 1), cpu('10.0.13', 2)]).toEqual(['max,-cx16', 'max', 'max']);
});

describe('the memory that an image needs', () => {
  const MIB = 1 << 20;
  const of = (root: number, model: number) =>
    requiredMemoryMib({ eifBytes: (root + 12) * MIB, rootBytes: root * MIB, modelBytes: model * MIB });

  test('more than the least that was seen to boot, by no more than a quarter', () => {
    for (const [root, least] of [
      [173.3, 592],
      [473.3, 1504],
    ] as const) {
      expect(of(root, 0)).toBeGreaterThan(least);
      expect(of(root, 0)).toBeLessThan(least * 1.25);
    }
  });

  test('a large model counts three times, a small one not at all', () => {
    expect(of(173, 1)).toBe(of(173, 0));
    expect(of(173, 4000) - of(173, 3000)).toBe(3000);
  });
});

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cache } from '../../src/image/cache.ts';
import { cpioArchive } from '../../src/image/cpio.ts';
import { provideInputs } from '../../src/image/inputs.ts';
import { lockEntries } from '../../src/image/lock-file.ts';
import { initRamdisk } from '../../src/image/ramdisks.ts';
import { loadBase } from '../../src/image/toolkit.ts';
import { kernelFeatures, readKernelFile, type SmallKernel, smallKernel } from '../../src/kernel/index.ts';
import { loadRecipe } from '../../src/kernel/inputs.ts';
import { findTools } from '../../src/kernel/tools.ts';
import { asOrdinaryUser, giveAway, root } from '../ordinary-user.ts';

const tools = await findTools().then(
  () => true,
  () => false,
);
const qemu = (await execa('qemu-system-x86_64', ['--version'], { reject: false })).exitCode === 0;

/** What other machines made of the same inputs (source, configuration, compiler), by their digest. */
const KNOWN: Record<string, string> = {
  // Debian 12: gcc 12.2.0-14+deb12u1, linux-source-6.12 6.12.117-1~deb12u1
  feb564eaebdc35af0031daf1c6a0efdb17e116825db26019899a21998deda167:
    '81aef3932dd7d7f3414d83542754a07daebbba1b2ea7e3e67ed2d08eef8fbee2',
};

describe.runIf(tools)('the small kernel', () => {
  let scratch: string;
  let cache: Cache;
  let small: SmallKernel;

  // Built here and now, under conditions that nobody else builds under.
  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'atoma-tee-kernel-'));
    const other = join(scratch, 'a directory, whose path is longer');
    mkdirSync(other, { recursive: true });
    giveAway(scratch);
    const builder = ['sh', '-c', 'umask 077; exec "$@"', 'sh', process.execPath];
    const [file = '', ...args] = asOrdinaryUser([...builder, join(root, 'test/kernel/child.ts'), other, '3']);
    const env = {
      PATH: process.env.PATH ?? '',
      ATOMA_TEE_DEBIAN_MIRROR: process.env.ATOMA_TEE_DEBIAN_MIRROR,
      ATOMA_TEE_DEBIAN_SECURITY_MIRROR: process.env.ATOMA_TEE_DEBIAN_SECURITY_MIRROR,
      HOME: other,
      TZ: 'Pacific/Kiritimati',
      LC_ALL: 'C.UTF-8',
      LANG: 'tr_TR.UTF-8',
      KCFLAGS: '-O1',
      MAKEFLAGS: '-k',
    };
    const { stdout } = await execa(file, args, { env, extendEnv: false, cwd: scratch });
    expect(JSON.parse(stdout)).toMatchObject({ cached: false });
    expect(readdirSync(join(other, 'tmp'))).toEqual([]);
    cache = await Cache.open(other);
    small = await smallKernel({ cache });
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  test('is the same bytes for another user, directory, umask, locale, time zone, number of jobs, and machine', async () => {
    // Another compiler makes other bytes: then it is built once more, as anybody would.
    const reference = KNOWN[small.pin.inputs] ?? (await smallKernel({ cache: await Cache.open() })).pin.sha256;
    expect(small.pin.sha256).toBe(reference);
  });

  test('says its version and what it has', async () => {
    const { source } = await loadRecipe();
    const version = /^[0-9.]+/.exec(source.version)?.[0];
    expect(await readKernelFile(small.kernel.path)).toMatchObject({
      arch: 'x86_64',
      version,
      sha256: small.pin.sha256,
    });
    expect(await kernelFeatures(small.kernel.path)).toEqual({
      source: 'config',
      virtioMmioCmdline: 'builtin',
      nsm: 'builtin',
      vsock: 'builtin',
      devtmpfs: 'builtin',
      scripts: 'builtin',
    });
  });

  test('lacks no mitigation that its source has, but those that its fragment turns off', async () => {
    const { fragment } = await loadRecipe();
    const config = readFileSync(small.kernel.config, 'utf8');
    const off = [...config.matchAll(/^# CONFIG_(MITIGATION_\w+) is not set$/gm)].map(([, symbol]) => symbol);
    expect(off.filter((symbol) => fragment.get(String(symbol)) !== null)).toEqual([]);
  });

  // What an image's init and program stand on; that whole images boot is the end-to-end tests' matter.
  test.runIf(qemu)(
    'boots in QEMU’s microvm without KVM, runs a script, has devices, loopback and a clock, and resets',
    async () => {
      const files = await provideInputs(
        lockEntries(await loadBase()).filter(({ name }) => name === 'busybox-static'),
        cache,
        { dir: root, offline: false },
      );
      const init = { path: 'init', mode: 0o755, content: Buffer.from(PROBE) };
      const initrd = join(scratch, 'initrd');
      const { writeFile } = await import('node:fs/promises');
      await writeFile(initrd, cpioArchive(initRamdisk(cache, files, [init]), { mtime: 0 }).chunks());
      // One processor: with two, QEMU 7.2's emulation now and then breaks the kernel's patching of itself.
      const machine = ['-M', 'microvm,acpi=off', '-accel', 'tcg', '-cpu', 'max', '-m', '128', '-smp', '1'];
      const plain = ['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'];
      const devices = ['-device', 'virtio-serial-device', '-device', 'virtio-rng-device'];
      const append = 'console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2600000';
      const boot = ['-kernel', small.kernel.path, '-initrd', initrd, '-append', append];
      const port = [
        '-chardev',
        `file,id=p,path=${join(scratch, 'port')}`,
        '-device',
        'virtserialport,chardev=p,name=atoma.0',
      ];
      const { stdout } = await execa('qemu-system-x86_64', [...machine, ...plain, ...devices, ...port, ...boot], {
        stdin: 'ignore',
      });
      const seen = [...stdout.replaceAll('\r', '').matchAll(/^probe: (.*)$/gm)].map(([, line]) => line);
      expect(seen).toEqual([
        `kernel ${small.pin.version}`,
        'processors 1',
        'port atoma.0',
        'random virtio_rng.0 none',
        'loopback up',
        'vsock yes',
        'modules none',
        'year this',
        'end',
      ]);
      expect(readFileSync(join(scratch, 'port'), 'utf8')).toBe('hello\n');
    },
  );
});

/** Says what it finds on the console, one line each. */
const PROBE = `#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir /proc /sys
$bb mount -t devtmpfs devtmpfs /dev && $bb mount -t proc proc /proc && $bb mount -t sysfs sysfs /sys
say() { echo "probe: $*"; }
say kernel $($bb uname -r)
say processors $($bb grep -c ^processor /proc/cpuinfo)
say port $($bb cat /sys/class/virtio-ports/*/name)
echo hello > /dev/vport0p1 || $bb ls /dev
say random $($bb cat /sys/class/misc/hw_random/rng_available)
$bb ip link set lo up && $bb ping -c 1 -W 5 127.0.0.1 >/dev/null && say loopback up
[ -c /dev/vsock ] && say vsock yes
[ -e /proc/modules ] || say modules none
[ $($bb date +%Y) -ge 2026 ] && say year this
say end
$bb reboot -f
`;

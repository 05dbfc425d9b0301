import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DebEntry } from '../../../src/image/lock-file.ts';
import { treeDigest } from '../../../src/image/tree.ts';
import { parseFragment } from '../../../src/kernel/fragment.ts';
import type { KernelRecipe } from '../../../src/kernel/inputs.ts';
import { type Entry, makeDeb, makeTar, makeXz, sha256 } from '../image/fixtures.ts';

/** The smallest file that is a 64-bit bzImage by its header: one setup sector more than the boot sector, and a payload. */
export function tinyBzImage(version = '6.12.117', payload: Uint8Array = Buffer.from('a payload')): Buffer {
  const setup = 2 * 512;
  const body = Math.ceil(payload.length / 16) * 16;
  const bytes = Buffer.alloc(setup + body);
  bytes.writeUInt8(1, 0x1f1);
  bytes.writeUInt32LE(body / 16, 0x1f4);
  bytes.writeUInt16LE(0xaa55, 0x1fe);
  bytes.write('HdrS', 0x202, 'latin1');
  bytes.writeUInt16LE(0x020f, 0x206);
  bytes.writeUInt16LE(0x300 - 0x200, 0x20e);
  bytes.writeUInt8(1, 0x211);
  bytes.writeUInt16LE(1, 0x236);
  bytes.writeUInt32LE(0, 0x248);
  bytes.writeUInt32LE(payload.length, 0x24c);
  bytes.write(`${version} (atoma-tee@atoma-tee) #1 SMP\0`, 0x300, 'latin1');
  bytes.set(payload, setup);
  return bytes;
}

/** As the kernel's own make: a configuration out of the fragment, an image out of the source. */
export const MAKEFILE = `
allnoconfig:
	cp $(KCONFIG_ALLCONFIG) .config
bzImage:
	@echo '  CC      tiny.o'
	mkdir -p arch/x86/boot
	cp image arch/x86/boot/bzImage
`;

export interface TinySource {
  recipe: KernelRecipe;
  /** The Debian package. */
  bytes: Buffer;
  /** Where a mirror has it. */
  path: string;
}

/** A Debian package with a kernel source that make builds in no time, and the recipe that pins it. */
export async function tinySource(makefile = MAKEFILE, more: Entry[] = []): Promise<TinySource> {
  const top = 'linux-source-6.12';
  const source = makeXz(
    await makeTar([
      { name: `${top}/`, type: 'directory' },
      { name: `${top}/Makefile`, mode: 0o644, content: makefile },
      { name: `${top}/image`, mode: 0o644, content: tinyBzImage() },
      ...more,
    ]),
  );
  const from = `usr/src/${top}.tar.xz`;
  const bytes = makeDeb('data.tar', await makeTar([{ name: `./${from}`, mode: 0o644, content: source }]));
  const keep: DebEntry['keep'] = [{ from, to: 'linux-source.tar.xz', part: 'kernel', mode: '0644' }];
  const file = {
    part: 'kernel',
    path: 'linux-source.tar.xz',
    mode: '0644',
    size: source.length,
    sha256: sha256(source),
  };
  const path = 'pool/updates/main/l/linux/tiny_1.0_all.deb';
  const entry: DebEntry = {
    name: 'linux-source-6.12',
    version: '6.12.117-1',
    architecture: 'amd64',
    suite: 'bookworm-security',
    path,
    size: bytes.length,
    sha256: sha256(bytes),
    keep,
    tree: treeDigest([{ ...file, part: 'kernel' }]),
  };
  const fragment = parseFragment('CONFIG_SMP=y\n# CONFIG_MODULES is not set\n');
  return {
    recipe: { source: { kind: 'deb', ...entry }, fragment, variables: { KBUILD_BUILD_USER: 'nobody' } },
    bytes,
    path,
  };
}

/** Writes a file into a temporary directory and returns its path. */
export function written(dir: string, name: string, bytes: Uint8Array | string): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

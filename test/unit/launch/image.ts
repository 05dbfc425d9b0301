import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cpioArchive, type TreeEntry } from '../../../src/image/cpio.ts';
import { bytesPart, type WrittenEif, writeEif } from '../../../src/nitro/index.ts';

/**
 * An image whose /init is a Node script: the test's own Node and its libraries, no kernel worth the name. It exercises
 * the launcher with nothing of the build in between.
 */
export async function probeImage(
  directory: string,
  script: string,
  files: Record<string, string> = {},
  root: TreeEntry[] = [...directories('rootfs'), file('rootfs/hello', Buffer.from('hello\n'))],
): Promise<WrittenEif> {
  mkdirSync(directory, { recursive: true });
  const ramdisk0 = [
    ...directories('bin', ...parents(libraries())),
    file('init', Buffer.from(`#!/bin/node\n${script}\n`), 0o755),
    file('bin/node', readFileSync(process.execPath), 0o755),
    ...libraries().map((path) => file(path.slice(1), readFileSync(realpathSync(path)), 0o755)),
  ];
  const ramdisk1 = [
    ...root,
    ...Object.entries(files).map(([name, content]) => file(`rootfs/${name}`, Buffer.from(content))),
  ];
  return writeEif({
    kernel: bytesPart(Buffer.from('not a kernel')),
    cmdline: 'console=ttyS0',
    ramdisks: [ramdisk0, ramdisk1].map((entries) => cpioArchive(entries, { mtime: 0 })),
    arch: 'x86_64',
    out: join(directory, 'probe.eif'),
  });
}

export const directories = (...paths: string[]): TreeEntry[] =>
  paths.map((path) => ({ path, type: 'dir', mode: 0o755, size: 0 }));

export const link = (path: string, target: string): TreeEntry => ({
  path,
  type: 'symlink',
  mode: 0o777,
  size: 0,
  target,
});

export const file = (path: string, content: Buffer, mode = 0o644): TreeEntry => ({
  path,
  type: 'file',
  mode,
  size: content.length,
  open: () => [content],
});

/** All directories above some absolute paths, relative to the root. */
const parents = (paths: string[]): string[] => {
  const all = new Set<string>();
  for (const path of paths) for (let at = dirname(path); at !== '/'; at = dirname(at)) all.add(at.slice(1));
  return [...all];
};

/** What the dynamic linker loaded into this Node, the linker included; they go where they came from. */
function libraries(): string[] {
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: string[] };
  const system = sharedObjects.filter((path) =>
    /\/(ld-linux|lib(c|m|dl|pthread|rt|gcc_s|stdc\+\+))[-.\w]*\.so/.test(path),
  );
  return system.filter((path) => statSync(path).isFile());
}

/** A fresh directory and its removal. */
export function temporary(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'atoma-tee-test-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

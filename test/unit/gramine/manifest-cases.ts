import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { haveVectors, vectors } from '../vectors.ts';

export interface Case {
  name: string;
  meta: { chroot: string | null; manifest_error?: string };
  /** A copy of the case's directory, with the links and the pipe that the archive of the vectors cannot hold. */
  directory: string;
}

const LINKS: Record<string, string[]> = {
  '05-trusted-directory': ['models/dangling', 'models/link-to-b', 'models/link-to-dir'],
  '11-chroot': ['rootfs/lib', 'rootfs/usr/lib/libx.so'],
};

export const caseNames = haveVectors ? readdirSync(vectors('gramine')).filter((name) => /^\d/.test(name)) : [];

/** Runs `use` with a case of the reference vectors; nothing is left afterwards. */
export async function withCase<T>(name: string, use: (of: Case) => Promise<T> | T): Promise<T> {
  const parent = mkdtempSync(join(tmpdir(), 'gramine-case-'));
  try {
    const directory = join(parent, name);
    cpSync(vectors('gramine', name), directory, { recursive: true, mode: 0 });
    execFileSync('chmod', ['-R', 'u+w', directory]);
    for (const link of LINKS[name] ?? []) {
      const target = readFileSync(join(directory, link), 'utf8');
      rmSync(join(directory, link));
      symlinkSync(target, join(directory, link));
    }
    if (name === '05-trusted-directory') execFileSync('mkfifo', [join(directory, 'models/fifo')]);
    const meta = JSON.parse(readFileSync(join(directory, 'meta.json'), 'utf8'));
    return await use({ name, meta, directory });
  } finally {
    rmSync(parent, { recursive: true, force: true });
  }
}

/** A directory that is gone when `use` is done. */
export async function withDirectory<T>(use: (path: string) => Promise<T> | T): Promise<T> {
  const path = mkdtempSync(join(tmpdir(), 'gramine-'));
  try {
    return await use(path);
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

/** What a call throws; fails where it throws nothing. */
export async function thrown(call: () => unknown): Promise<any> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error('expected an error');
}

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pinGramine } from '../../../src/gramine/runtime-files.ts';
import { Cache } from '../../../src/image/cache.ts';
import { generateKey } from '../../../src/keys/generate.ts';
import { type TinyProject, tinyProject } from '../image/fixtures.ts';
import { elfFile, smallPal } from './elf-file.ts';

/** Gramine's two libraries below a prefix, as its installation leaves them. No Gramine: nothing could run them. */
export function fakeGramine(prefix: string, libpal = smallPal()): { libpal: Buffer; libsysdb: Buffer } {
  const dir = join(prefix, 'lib/x86_64-linux-gnu/gramine');
  const libsysdb = elfFile([{ flags: 5, offset: 0, address: 0, fileSize: 0x2000, memorySize: 0x2000 }]);
  mkdirSync(join(dir, 'sgx'), { recursive: true });
  mkdirSync(join(prefix, 'bin'), { recursive: true });
  writeFileSync(join(dir, 'sgx/libpal.so'), libpal);
  writeFileSync(join(dir, 'libsysdb.so'), libsysdb);
  writeFileSync(join(prefix, 'bin/gramine-sgx'), '#!/bin/sh\n    echo "Gramine 1.9 (abc)"\n');
  return { libpal, libsysdb };
}

let key: string | undefined;
/** Made once: a key of 3072 bits takes its time. */
export function sgxKey(): string {
  key ??= generateKey('sgx').privatePem;
  return key;
}

/** Settings of a small enclave, for [gramine]. */
export const SMALL = 'from = "gramine"\nsign = { key = "sgx.pem" }\nenclave_size = "16M"\nmax_threads = 2\n';

/** Writes targets and [gramine] into a project's enclave.toml. */
export function setGramine(project: Pick<TinyProject, 'dir'>, targets: string[], table = SMALL): void {
  const toml = join(project.dir, 'enclave.toml');
  const text = readFileSync(toml, 'utf8').replace(/\n\[gramine\][\s\S]*/, '');
  const targeted = text.replace(/^targets = .*$/m, `targets = ${JSON.stringify(targets)}`);
  writeFileSync(toml, `${targeted}\n[gramine]\n${table}`);
}

/** `tinyProject` for these targets, with a signing key and what stands for Gramine, pinned. */
export async function gramineProject(targets = ['nitro', 'gramine'], table = SMALL): Promise<TinyProject> {
  const project = await tinyProject();
  fakeGramine(join(project.dir, 'gramine'));
  writeFileSync(join(project.dir, 'sgx.pem'), sgxKey());
  setGramine(project, targets, table);
  if (targets.includes('gramine')) {
    const cache = await Cache.open(project.cacheDir);
    project.lock.gramine = await pinGramine('gramine', { dir: project.dir, cache });
  }
  project.writeLock();
  return project;
}

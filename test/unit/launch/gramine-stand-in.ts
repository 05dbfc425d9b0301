import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeMeasuredConfig } from '../../../src/core/measured-config.ts';
import type { SgxMeasurement } from '../../../src/core/measurement.ts';
import { gramineNames, imageManifest } from '../../../src/gramine/image-manifest.ts';
import { finishManifest } from '../../../src/gramine/manifest.ts';
import { signManifest } from '../../../src/gramine/sign.ts';
import { readSgxSigner } from '../../../src/gramine/signer.ts';
import { gramineDefaults } from '../../../src/project/schema.ts';
import { smallPal } from '../gramine/elf-file.ts';
import { sgxKey } from '../gramine/project.ts';

export interface TestImage {
  /** Path of NAME.manifest.sgx. */
  manifest: string;
  measurement: SgxMeasurement;
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** A Gramine image: really measured and signed, with little in it but its measured configuration. */
export async function gramineImage(directory: string, model: { digest: string; owner: string }): Promise<TestImage> {
  const name = 'echo';
  const names = gramineNames(name);
  const own = join(directory, names.directory);
  const libraries = { 'libpal.so': smallPal(), 'libsysdb.so': Buffer.from('LibOS') };
  const config = encodeMeasuredConfig({
    version: 1,
    project: name,
    projectVersion: '1.0.0',
    policyVersion: '7',
    model,
    runtime: { kind: 'onnx' },
  });
  const data = Buffer.from('data');
  mkdirSync(join(own, 'root/etc/atoma-tee'), { recursive: true });
  mkdirSync(join(own, 'root/app'));
  writeFileSync(join(own, 'root/app/data'), data);
  // Gramine makes this one; under gramine-direct there is nothing else in it.
  mkdirSync(join(own, 'root/dev/attestation/keys'), { recursive: true });
  for (const [file, bytes] of Object.entries(libraries)) writeFileSync(join(own, file), bytes);
  writeFileSync(join(own, 'root/etc/atoma-tee/enclave.json'), config);
  const files = [
    { path: 'etc/atoma-tee/enclave.json', sha256: sha256(config) },
    { path: 'app/data', sha256: sha256(data) },
  ];
  const settings = { ...gramineDefaults(), enclave_size: '16M', max_threads: 2 };
  const draft = imageManifest(name, settings, { files, libsysdb: sha256(libraries['libsysdb.so']) });
  const { bytes, table } = await finishManifest(draft, { directory });
  writeFileSync(join(directory, 'sgx.pem'), sgxKey(), { mode: 0o600 });
  const signer = await readSgxSigner({ key: join(directory, 'sgx.pem') });
  const signed = { manifest: bytes, table, libpal: libraries['libpal.so'], signer, date: '2026-11-22' };
  const { sigstruct, measurement } = await signManifest(signed);
  const manifest = join(directory, names.manifest);
  writeFileSync(manifest, bytes);
  writeFileSync(join(directory, names.sigstruct), sigstruct);
  return { manifest, measurement };
}

/** What a stand-in does once it has said that it was started: a line of a shell script. */
export const RUNS = `exec '${process.execPath}' --disable-warning=ExperimentalWarning '${join(import.meta.dirname, 'gramine-program.ts')}' "$PWD/$1.gramine/root"`;

/**
 * An installation of Gramine for machines that have none: scripts by the names of its two programs, which behave as told
 * and leave a mark of their process. They start the enclave program of this checkout as it is: neither its
 * system calls nor its files go through any Gramine, so that nothing is said about that.
 */
export function fakeGramine(prefix: string, behaviour = RUNS, programs = ['gramine-direct', 'gramine-sgx']) {
  const mark = join(prefix, 'started');
  mkdirSync(join(prefix, 'bin'), { recursive: true });
  writeFileSync(join(prefix, 'libpal.so'), smallPal());
  for (const name of programs) {
    const path = join(prefix, 'bin', name);
    const script = `#!/bin/sh
LIBPAL_PATH=${prefix}/libpal.so
if [ "$1" = --version ]; then
    echo "Gramine 1.9 (stand-in)"
fi
echo "$$ $0 $PWD $*" >> '${mark}'
for file in "$1.manifest" "$1.manifest.sgx" "$1.sig" "$1.gramine/libpal.so"; do [ -e "$file" ] || exit 9; done
${behaviour}
`;
    writeFileSync(path, script);
    chmodSync(path, 0o755);
  }
  return {
    prefix,
    /** Process id, program, working directory and arguments of each start. */
    started: () => {
      try {
        return readFileSync(mark, 'utf8')
          .trimEnd()
          .split('\n')
          .map((line) => line.split(' '));
      } catch {
        return [];
      }
    },
  };
}

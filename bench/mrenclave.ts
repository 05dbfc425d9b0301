/**
 * MRENCLAVE of a 4 GiB enclave with 64 threads against what cannot be avoided: one SHA-256 (node:crypto) of as many bytes as are
 * hashed for it. Beside it the largest resident memory: the enclave is never built.
 */
import { createHash } from 'node:crypto';
import { measureEnclave, type SgxSettings } from '../src/gramine/index.ts';
import { interleave, median, report } from './lib.ts';

/** A PAL of 400 KiB of code and 100 KiB of data. */
function palFile(): Buffer {
  const file = Buffer.alloc(0x80000, 0x90);
  file.fill(0, 0, 64 + 2 * 56);
  file.write('7f454c46020101', 'hex');
  file.writeUInt16LE(3, 16);
  file.writeUInt16LE(62, 18);
  file.writeBigUInt64LE(0x1000n, 24);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  const segments = [
    [5, 0, 0x64000],
    [6, 0x64000, 0x19000],
  ] as const;
  for (const [index, [flags, offset, size]] of segments.entries()) {
    const at = 64 + index * 56;
    file.writeUInt32LE(1, at);
    file.writeUInt32LE(flags, at + 4);
    for (const [field, value] of [offset, offset, offset, size, size, 0x1000].entries()) {
      file.writeBigUInt64LE(BigInt(value), at + 8 + field * 8);
    }
  }
  return file;
}

const manifest = Buffer.alloc(200_000, 0x20);
const libpal = palFile();
const settings: SgxSettings = {
  enclaveSize: 4n << 30n,
  edmm: false,
  maxThreads: 64,
  isvprodid: 0,
  isvsvn: 0,
  debug: false,
  useExinfo: false,
  cpuFeatures: { avx: 'unspecified', avx512: 'unspecified', amx: 'unspecified', mpx: 'disabled', pkru: 'disabled' },
};

const { areas } = await measureEnclave(manifest, libpal, settings);
const pages = (measured: boolean) =>
  areas.filter(({ name }) => (name !== 'free') === measured).reduce((sum, { size }) => sum + Number(size) / 4096, 0);
const bytes = 64 + pages(true) * (64 + 16 * (64 + 256)) + pages(false) * 64;
console.log(`${(bytes / 1e6).toFixed(1)} MB are hashed for ${areas.length} areas`);

// As little memory traffic as possible: the same 64 KiB again and again.
const block = Buffer.alloc(1 << 16, 0x5a);
const times = await interleave(9, {
  measure: () => measureEnclave(manifest, libpal, settings),
  sha256: () => {
    const hash = createHash('sha256');
    let left = bytes;
    for (; left >= block.length; left -= block.length) hash.update(block);
    hash.update(block.subarray(0, left)).digest();
  },
});
console.log(`measure ${median(times.measure).toFixed(0)} ms, SHA-256 ${median(times.sha256).toFixed(0)} ms`);
console.log(`largest resident memory ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`);
report('MRENCLAVE / SHA-256 of as many bytes', median(times.measure) / median(times.sha256), 1.5);

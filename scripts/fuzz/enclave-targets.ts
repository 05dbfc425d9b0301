import { generateKeyPairSync, sign } from 'node:crypto';
import { parseElf, segmentPages } from '../../src/gramine/elf.ts';
import { enclaveAttributes, parseSigstruct, type SgxSettings, verifySigstruct } from '../../src/gramine/index.ts';
import { signedBytes } from '../../src/gramine/sigstruct.ts';
import { completeSigstruct, unsignedSigstruct } from '../../src/gramine/sigstruct-write.ts';
import { elfFile } from '../../test/unit/gramine/elf-file.ts';
import { must, type Seed, type Target } from './target.ts';

const settings: SgxSettings = {
  enclaveSize: 1n << 24n,
  edmm: false,
  maxThreads: 1,
  isvprodid: 1,
  isvsvn: 2,
  debug: false,
  useExinfo: false,
  cpuFeatures: { avx: 'required', avx512: 'unspecified', amx: 'unspecified', mpx: 'disabled', pkru: 'disabled' },
};

/** A SIGSTRUCT that its modulus signed: no bit of it may change. */
async function sigstructSeeds(): Promise<Seed[]> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 3072, publicExponent: 3 });
  const modulus = Buffer.from(privateKey.export({ format: 'jwk' }).n ?? '', 'base64url').reverse();
  const bytes = unsignedSigstruct(settings, 'ab'.repeat(32), '2025-01-31');
  completeSigstruct(bytes, modulus, sign('sha256', signedBytes(bytes), privateKey));
  const accepts = (input: Buffer) => {
    const sigstruct = parseSigstruct(input);
    const { signature, quotients } = verifySigstruct(sigstruct);
    return signature && quotients && sigstruct.flags === enclaveAttributes(settings).flags;
  };
  return [{ name: 'signed', bytes, accepts }];
}

/** Headers with three segments; what the parser takes lies in the file, apart, and below 2^47. */
async function elfSeeds(): Promise<Seed[]> {
  const bytes = elfFile(
    [
      { offset: 0, address: 0, fileSize: 0x400, memorySize: 0x400 },
      { offset: 0x1000, address: 0x1000, fileSize: 0x123, memorySize: 0x123 },
      { offset: 0x1200, address: 0x5200, fileSize: 0x100, memorySize: 0x3000 },
    ],
    { size: 0x1800 },
  );
  const accepts = (input: Buffer) => {
    const { segments } = parseElf(input);
    for (const { offset, fileSize, address, memorySize } of segments) {
      must(offset + fileSize <= input.length && fileSize <= memorySize, 'a segment lies in the file');
      must(address + memorySize <= 2 ** 47, 'a segment lies in user memory');
    }
    const pages = segments.map(segmentPages).filter(({ size }) => size > 0);
    for (const one of pages) {
      const same = pages.filter(
        (other) => one.address < other.address + other.size && other.address < one.address + one.size,
      );
      must(same.length === 1, 'no page belongs to two segments');
    }
    return true;
  };
  return [{ name: 'three segments', bytes, accepts }];
}

export const enclaveTargets: Target[] = [
  { name: 'sigstruct', genuine: true, share: 0.1, seeds: sigstructSeeds },
  { name: 'elf', genuine: false, share: 1, seeds: elfSeeds },
];

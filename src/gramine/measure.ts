import { parseElf } from './elf.ts';
import { PAGE_FLAGS, planEnclave } from './enclave-layout.ts';
import { createRecord, type MeasureOptions, Meter } from './measure-records.ts';
import type { SgxSettings } from './settings.ts';

export type { MeasureOptions } from './measure-records.ts';

/** One area of an enclave, as `inspect --layout` prints it. */
export interface EnclaveArea {
  /** manifest, ssa, tcs, tls, stack0.., sig_stack0.., pal, free. */
  name: string;
  address: bigint;
  size: bigint;
  /** As Gramine's signer prints them: "REG:RW-", "TCS:---"; several where segments differ. */
  flags: string;
  /**
   * SHA-256 of what the area holds, wherever it lies: for each run of pages with the same flags its offset in the area, its size
   * and its flags (64 bits each, little-endian), then the bytes of its pages if they are measured. Hex.
   */
  digest: string;
  /** MRENCLAVE as it would be if the enclave ended here, hex. */
  running: string;
}

/**
 * MRENCLAVE of a signed manifest's bytes and a libpal.so, with what each area adds to it. Pages come to be one batch at a
 * time, and for pages of zeros, and the free ones, nothing but their addresses is written. Throws what `parseElf` and
 * `planEnclave` throw.
 */
export async function measureEnclave(
  manifest: Uint8Array,
  libpal: Uint8Array,
  settings: SgxSettings,
  options: MeasureOptions = {},
): Promise<{ mrenclave: string; areas: EnclaveArea[] }> {
  const plan = planEnclave(manifest, libpal, parseElf(libpal), settings);
  const meter = new Meter(plan, options);
  meter.hash.update(createRecord(settings.enclaveSize));
  const areas: EnclaveArea[] = [];
  for (const area of plan) {
    const { name, address, size, ranges } = area;
    areas.push({
      name,
      address: BigInt(address),
      size: BigInt(size),
      flags: [...new Set(ranges.map(({ flags }) => describeFlags(flags)))].join(' '),
      digest: await meter.measure(area),
      running: meter.hash.copy().digest('hex'),
    });
  }
  return { mrenclave: meter.hash.digest('hex'), areas };
}

function describeFlags(flags: number): string {
  const { read, write, execute, tcs } = PAGE_FLAGS;
  const letter = (bit: number, name: string) => ((flags & bit) !== 0 ? name : '-');
  const rights = letter(read, 'R') + letter(write, 'W') + letter(execute, 'X');
  return `${(flags & tcs) !== 0 ? 'TCS' : 'REG'}:${rights}`;
}

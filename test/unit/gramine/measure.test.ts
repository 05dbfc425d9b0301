import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { measureEnclave, type SgxSettings, sgxSettings } from '../../../src/gramine/index.ts';
import { parseManifest } from '../../../src/gramine/manifest.ts';
import { parseSize } from '../../../src/gramine/settings.ts';
import { haveVectors, vectors } from '../vectors.ts';
import { elfFile, smallPal } from './elf-file.ts';

const settings = (fields: Partial<SgxSettings> = {}): SgxSettings => ({
  enclaveSize: 16n << 20n,
  edmm: false,
  maxThreads: 1,
  isvprodid: 0,
  isvsvn: 0,
  debug: false,
  useExinfo: false,
  cpuFeatures: { avx: 'unspecified', avx512: 'unspecified', amx: 'unspecified', mpx: 'disabled', pkru: 'disabled' },
  ...fields,
});
const manifest = Buffer.from('[sgx]\n');

describe.skipIf(!haveVectors)('the reference vectors (skipped without them)', () => {
  const cases = haveVectors
    ? readdirSync(vectors('gramine')).filter((name) => /^\d/.test(name) && !name.includes('fail'))
    : [];
  test.each(cases)('%s: MRENCLAVE of Gramine', async (name) => {
    const meta = JSON.parse(readFileSync(vectors('gramine', name, 'meta.json'), 'utf8'));
    const bytes = readFileSync(vectors('gramine', name, 'app.manifest.sgx'));
    const found = sgxSettings(parseManifest(bytes.toString(), name));
    const { mrenclave, areas } = await measureEnclave(bytes, readFileSync(vectors('gramine/elf', meta.elf)), found);
    expect(mrenclave).toBe(meta.mrenclave);
    expect(areas.at(-1)?.running).toBe(mrenclave);
    expect(areas.some((area) => area.name === 'free')).toBe(!found.edmm);
  });

  test('16-fail-too-small is refused', async () => {
    const bytes = readFileSync(vectors('gramine/16-fail-too-small/app.manifest.sgx'));
    const found = sgxSettings(parseManifest(bytes.toString(), 'app'));
    await expect(measureEnclave(bytes, readFileSync(vectors('gramine/elf/synth-a.so')), found)).rejects.toMatchObject({
      code: 'ERR_GRAMINE_ENCLAVE_SIZE',
      exitCode: 2,
    });
  });
});

/** MRENCLAVE page by page from areas' own word, nothing batched: slow, and readable beside Intel's SDM. */
function readable(size: bigint, pages: { address: bigint; flags: bigint; content: Buffer | null }[]): string {
  const hash = createHash('sha256');
  const record = (name: string, ...fields: [offset: number, value: bigint][]) => {
    const bytes = Buffer.alloc(64);
    bytes.write(name, 'latin1');
    for (const [offset, value] of fields) bytes.writeBigUInt64LE(value, offset);
    return bytes;
  };
  const create = record('ECREATE', [12, size]);
  create.writeUInt32LE(4, 8);
  hash.update(create);
  for (const { address, flags, content } of pages) {
    hash.update(record('EADD', [8, address], [16, flags]));
    for (let at = 0; content && at < 4096; at += 256) {
      hash.update(record('EEXTEND', [8, address + BigInt(at)])).update(content.subarray(at, at + 256));
    }
  }
  return hash.digest('hex');
}

describe('areas', () => {
  test('the last running hash of a prefix is that of its pages alone: manifest and SSA', async () => {
    const { areas } = await measureEnclave(manifest, smallPal(), settings({ edmm: true }));
    const top = 16n << 20n;
    const first = Buffer.alloc(4096);
    manifest.copy(first);
    const page = (address: bigint, flags: bigint, content: Buffer) => ({ address, flags, content });
    const pages = [page(top - 4096n, 0x201n, first)];
    expect(areas[0]).toMatchObject({ name: 'manifest', address: top - 4096n, size: 4096n, flags: 'REG:R--' });
    expect(areas[0]?.running).toBe(readable(top, pages));
    const ssa = top - 4096n - 0x8000n;
    for (let at = 0n; at < 0x8000n; at += 4096n) pages.push(page(ssa + at, 0x203n, Buffer.alloc(4096)));
    expect(areas[1]?.running).toBe(readable(top, pages));
  });

  test('cover an enclave without EDMM from 64 KiB to its end, without holes but those in the PAL', async () => {
    const { areas } = await measureEnclave(manifest, smallPal(), settings({ maxThreads: 3 }));
    const sorted = [...areas].sort((a, b) => Number(a.address - b.address));
    expect(sorted[0]?.address).toBe(0x10000n);
    for (const [index, { address, size }] of sorted.entries()) {
      expect(address + size).toBe(sorted[index + 1]?.address ?? 16n << 20n);
    }
    expect(areas.map(({ name }) => name)).toEqual(
      'manifest ssa tcs tls stack0 stack1 stack2 sig_stack0 sig_stack1 sig_stack2 pal free'.split(' '),
    );
  });

  test('an area that only moved keeps its digest; one that changed does not', async () => {
    const digests = async (text: string) => {
      const { areas } = await measureEnclave(Buffer.from(text), smallPal(), settings());
      return Object.fromEntries(areas.map(({ name, digest }) => [name, digest]));
    };
    const [one, other] = [await digests('a'), await digests('b'.repeat(5000))];
    const changed = Object.keys(one).filter((name) => one[name] !== other[name]);
    // Thread structures hold addresses; the heap got smaller by the manifest's second page.
    expect(changed).toEqual(['manifest', 'tcs', 'tls', 'free']);
  });

  test('every byte of the PAL that its segments hold counts, and none around', async () => {
    const mrenclave = async (change?: number) => {
      const pal = smallPal();
      if (change !== undefined) pal[change] = (pal[change] ?? 0) ^ 1;
      return (await measureEnclave(manifest, pal, settings({ edmm: true }))).mrenclave;
    };
    const genuine = await mrenclave();
    for (const inside of [0xfff, 0x1010, 0x102f]) expect(await mrenclave(inside)).not.toBe(genuine);
    for (const outside of [0x1000, 0x100f, 0x1030, 0x2fff]) expect(await mrenclave(outside)).toBe(genuine);
  });

  test('a manifest of 4095 bytes takes one page with its NUL, one of 4096 takes two', async () => {
    const size = async (bytes: number) =>
      (await measureEnclave(Buffer.alloc(bytes, 0x20), smallPal(), settings())).areas[0]?.size;
    expect([await size(4095), await size(4096)]).toEqual([4096n, 8192n]);
  });
});

describe('a PAL with an address of its own', () => {
  const at = (address: number, memorySize = 0x1000) =>
    elfFile([{ flags: 5, offset: 0, address, fileSize: 0x1000, memorySize }]);
  const measure = (pal: Buffer, edmm = false) => measureEnclave(manifest, pal, settings({ edmm }));
  const refused = (code: string) => expect.objectContaining({ code, exitCode: 2 });

  test('two free areas, above and below', async () => {
    const { areas } = await measure(at(0x400000));
    expect(areas.slice(-3).map(({ name, address, size }) => [name, address, address + size])).toEqual([
      ['pal', 0x400000n, 0x401000n],
      ['free', 0x401000n, areas.at(-4)?.address],
      ['free', 0x10000n, 0x400000n],
    ]);
  });

  test.each([
    ['below the heap', 0x1000, 0x1000],
    ['behind the end of the enclave', 0x1000000, 0x1000],
    ['across its end', 0xfff000, 0x2000],
    ['where the stacks are', 0xf00000, 0x100000],
    ['of terabytes', 0x400000, 0x400_0000_0000],
  ])('%s', async (_, address, size) => {
    await expect(measure(at(address, size))).rejects.toEqual(refused('ERR_GRAMINE_PAL_ADDRESS'));
    await expect(measure(at(address, size), true)).rejects.toEqual(refused('ERR_GRAMINE_PAL_ADDRESS'));
  });

  test('that touches the areas above: only with EDMM, where no page is added twice', async () => {
    const lowest = Number((await measure(at(0x400000))).areas.at(-4)?.address);
    await expect(measure(at(lowest - 0x1000))).rejects.toEqual(refused('ERR_GRAMINE_PAL_ADDRESS'));
    expect((await measure(at(lowest - 0x1000), true)).areas.at(-1)?.name).toBe('pal');
    expect((await measure(at(lowest - 0x2000))).areas).toHaveLength(9);
  });
});

describe('settings of hostile manifests', () => {
  const complete = {
    max_threads: 4n,
    isvprodid: 0n,
    isvsvn: 0n,
    debug: false,
    edmm_enable: false,
    enclave_size: '256M',
    use_exinfo: false,
    cpu_features: { mpx: 'disabled', pkru: 'disabled' },
  };
  const read = (fields: object) => sgxSettings({ sgx: { ...complete, ...fields } });

  test('a complete one', () => {
    expect(read({ max_threads: 64n, enclave_size: '0x10_0K', isvprodid: 65535n })).toEqual({
      enclaveSize: 1n << 18n,
      edmm: false,
      maxThreads: 64,
      isvprodid: 65535,
      isvsvn: 0,
      debug: false,
      useExinfo: false,
      cpuFeatures: { avx: 'unspecified', avx512: 'unspecified', amx: 'unspecified', mpx: 'disabled', pkru: 'disabled' },
    });
  });

  test.each<[string, object]>([
    ['a size that is no power of two: no CPU makes such an enclave', { enclave_size: '257M' }],
    ['no size', { enclave_size: undefined }],
    ['a size as a number', { enclave_size: 256n }],
    ['size zero', { enclave_size: '0G' }],
    ['a negative size', { enclave_size: '-256M' }],
    ['a size with a unit that Gramine has not', { enclave_size: '256m' }],
    ['an enclave whose pages would be hashed for days', { enclave_size: '2048G' }],
    ['an enclave larger than any address', { enclave_size: '0x1000000000000', edmm_enable: true }],
    ['a size of a million digits', { enclave_size: '1'.repeat(1e6) }],
    ['no thread', { max_threads: 0n }],
    ['more threads than Gramine starts', { max_threads: 4097n }],
    ['threads beyond what a number holds', { max_threads: 1n << 70n }],
    ['half a thread', { max_threads: 1.5 }],
    ['a product id of 17 bits', { isvprodid: 65536n }],
    ['a negative SVN', { isvsvn: -1n }],
    ['debug as text', { debug: 'false' }],
    ['MPX left open', { cpu_features: { mpx: 'unspecified', pkru: 'disabled' } }],
    ['an unknown word for AVX', { cpu_features: { avx: 'maybe' } }],
    ['EDMM with preheating', { edmm_enable: true, preheat_enclave: true }],
  ])('%s', (_, fields) => {
    expect(() => read(fields)).toThrow(expect.objectContaining({ code: 'ERR_GRAMINE_VALUE', exitCode: 2 }));
  });

  test.each<[string, bigint | undefined]>([
    ['256M', 256n << 20n],
    ['0x10', 16n],
    ['0o17K', 15n << 10n],
    ['0b1G', 1n << 30n],
    [' 1_000 ', 1000n],
    ['00', 0n],
    ['010', undefined],
    ['1__0', undefined],
    ['1_', undefined],
    ['0x', undefined],
    ['', undefined],
    ['M', undefined],
    ['1T', undefined],
    ['1e3', undefined],
    ['1.5G', undefined],
  ])('the size "%s", as Python reads it', (text, value) => {
    expect(parseSize(text)).toBe(value);
  });
});

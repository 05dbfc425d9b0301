import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { requireSymbols } from '../../../src/kernel/build.ts';
import { encodeFragment, parseFragment, unmetSymbols } from '../../../src/kernel/fragment.ts';
import { inputDigest, kernelInputs, loadRecipe } from '../../../src/kernel/inputs.ts';
import { REPO } from '../image/fixtures.ts';

describe('fragments', () => {
  test('are lines of a .config, comments and empty lines', () => {
    const text = '# why\n\nCONFIG_SMP=y\nCONFIG_NR_CPUS=64\nCONFIG_NAME="a b"\n# CONFIG_MODULES is not set\n';
    expect([...parseFragment(text)]).toEqual([
      ['SMP', 'y'],
      ['NR_CPUS', '64'],
      ['NAME', '"a b"'],
      ['MODULES', null],
    ]);
  });

  test('have one form, whatever their order and comments', () => {
    const one = encodeFragment(parseFragment('# x\nCONFIG_B=y\nCONFIG_A=1\n'));
    expect(one).toBe(encodeFragment(parseFragment('CONFIG_A=1\n# y\nCONFIG_B=y\n')));
    expect(one).toBe('CONFIG_A=1\nCONFIG_B=y\n');
    expect(parseFragment(one).size).toBe(2);
  });

  test.each([
    ['a misspelt prefix', 'CONFG_SMP=y'],
    ['spaces around the sign', 'CONFIG_SMP = y'],
    ['a value that Kconfig does not know', 'CONFIG_SMP=yes'],
    ['a commented-out symbol that turns nothing off', '#CONFIG_SMP=y'],
    ['an "is not set" that Kconfig would not read', '# CONFIG_SMP is not  set'],
    ['a symbol twice', 'CONFIG_SMP=y\n# CONFIG_SMP is not set'],
  ])('with %s are refused, not passed over', (_, text) => {
    expect(() => parseFragment(text)).toThrow(expect.objectContaining({ code: 'ERR_KERNEL_CONFIG', exitCode: 2 }));
  });

  test('a symbol that the .config lacks, has otherwise or has on is named', () => {
    const fragment = parseFragment(
      'CONFIG_A=y\nCONFIG_B=64\nCONFIG_C=y\n# CONFIG_D is not set\n# CONFIG_E is not set\n',
    );
    const config = 'CONFIG_A=y\nCONFIG_B=2\n# CONFIG_C is not set\nCONFIG_D=y\nCONFIG_AA=y\n';
    expect(unmetSymbols(fragment, config)).toEqual([
      { symbol: 'B', wanted: '64', found: '2' },
      { symbol: 'C', wanted: 'y', found: 'not set' },
      { symbol: 'D', wanted: 'not set', found: 'y' },
    ]);
    expect(() => requireSymbols(fragment, config)).toThrow(
      expect.objectContaining({
        code: 'ERR_KERNEL_CONFIG',
        message: expect.stringContaining('B (expected 64, found 2)'),
      }),
    );
  });
});

describe('the recipe', () => {
  const tools = { gcc: 'gcc 12', ld: 'ld 2', make: 'make 4', flex: 'flex 2', bison: 'bison 3', gzip: 'gzip 1' };

  test('that is shipped has every symbol that an image needs, and its timestamp is that of the package', async () => {
    const { fragment, variables, source } = await loadRecipe();
    for (const symbol of ['VIRTIO_MMIO_CMDLINE_DEVICES', 'NSM', 'VIRTIO_VSOCKETS', 'BINFMT_SCRIPT', 'DEVTMPFS']) {
      expect([symbol, fragment.get(symbol)]).toEqual([symbol, 'y']);
    }
    for (const symbol of ['MODULES', 'BPF_SYSCALL', 'IO_URING', 'DEVMEM', 'KEXEC'])
      expect(fragment.get(symbol)).toBe(null);
    expect(variables.KBUILD_BUILD_TIMESTAMP).toMatch(/^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC$/);
    expect(source.name).toBe('linux-source-6.12');
  });

  test('explains every group of its fragment', () => {
    const text = readFileSync(join(REPO, 'templates/nitro/kernel.config'), 'utf8');
    const groups = text.split('\n\n').slice(2);
    expect(groups.filter((group) => !group.startsWith('# --- ')).map((group) => group.slice(0, 60))).toEqual([]);
  });

  test('has another digest when anything that goes into a kernel differs, and only then', async () => {
    const recipe = await loadRecipe();
    const of = (r: typeof recipe, t = tools) => inputDigest(kernelInputs(r, t));
    if (recipe.source.kind !== 'deb') throw new Error('unreachable');
    const others = [
      of(recipe, { ...tools, gcc: 'gcc 13' }),
      of({ ...recipe, variables: { ...recipe.variables, KBUILD_BUILD_USER: 'me' } }),
      of({ ...recipe, fragment: new Map([...recipe.fragment, ['X', 'y']]) }),
      of({ ...recipe, source: { ...recipe.source, sha256: '0'.repeat(64) } }),
    ];
    expect(new Set([of(recipe), ...others]).size).toBe(5);
    const reversed = { ...recipe, fragment: new Map([...recipe.fragment].reverse()) };
    expect(of(reversed, Object.fromEntries(Object.entries(tools).reverse()) as typeof tools)).toBe(of(recipe));
  });
});
